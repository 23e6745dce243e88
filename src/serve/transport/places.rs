//! Places for connections: so many at once, of which one address may take only a part, so that its
//! idle connections do not shut others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Of one address.
    most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the places, until dropped.
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
    _free: OwnedSemaphorePermit,
}

impl Places {
    /// So many places, of which one address may take `most`.
    pub(super) fn new(places: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(places)), most, taken: Mutex::default() })
    }

    /// Waits until a place is free.
    pub(super) async fn free(&self) -> OwnedSemaphorePermit {
        let free = Arc::clone(&self.free).acquire_owned();
        free.await.expect("the semaphore is never closed")
    }

    /// Gives a place to an address.
    ///
    /// # Errors
    /// The place back, when the address has as many as it may.
    pub(super) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        free: OwnedSemaphorePermit,
    ) -> Result<Place, OwnedSemaphorePermit> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= self.most {
            return Err(free);
        }
        *count += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(self), address, _free: free })
    }
}

impl Place {
    /// Whose it is.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get_mut(&self.address).expect("it was counted when it came");
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_to_the_others() {
        let places = Places::new(16, 14);
        let take = |address: u8| {
            let free = Arc::clone(&places.free).try_acquire_owned().ok()?;
            places.take([10, 0, 0, address].into(), free).ok()
        };
        let held: Vec<Place> = std::iter::from_fn(|| take(1)).collect();
        assert_eq!(held.len(), 14);
        let others = [take(2), take(3), take(4)];
        assert_eq!(others.iter().flatten().count(), 2);
        drop((held, others));
        assert!(take(1).is_some() && places.taken.lock().unwrap().is_empty());
    }
}
