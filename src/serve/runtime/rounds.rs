//! A line in which callers take turns: the first item of one, then the first of the next. Who
//! brings much waits for itself, and others do not wait for all of it.

use std::collections::{HashMap, VecDeque};

use crate::serve::caller::CallerName;

/// What waits, a lane for each caller.
#[derive(Debug)]
pub(crate) struct Rounds<T> {
    /// The callers of `lanes`, the next one first.
    order: VecDeque<CallerName>,
    /// None is empty.
    lanes: HashMap<CallerName, VecDeque<T>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), lanes: HashMap::new() }
    }
}

impl<T> Rounds<T> {
    /// Adds an item behind those of its caller.
    pub(crate) fn push(&mut self, caller: &CallerName, item: T) {
        if let Some(lane) = self.lanes.get_mut(caller) {
            return lane.push_back(item);
        }
        self.order.push_back(caller.clone());
        self.lanes.insert(caller.clone(), VecDeque::from([item]));
    }

    /// The item whose turn it is.
    pub(crate) fn front(&self) -> Option<&T> {
        self.lanes.get(self.order.front()?)?.front()
    }

    /// Takes the item whose turn it is; then it is the next caller's turn.
    pub(crate) fn take(&mut self) -> Option<T> {
        let caller = self.order.front()?.clone();
        let item = self.discard();
        if self.order.front() == Some(&caller) {
            self.order.rotate_left(1);
        }
        item
    }

    /// Takes the item whose turn it is, and leaves the turn to its caller while it has another.
    pub(crate) fn discard(&mut self) -> Option<T> {
        let caller = self.order.front()?;
        let lane = self.lanes.get_mut(caller)?;
        let item = lane.pop_front();
        if lane.is_empty() {
            self.lanes.remove(caller);
            self.order.pop_front();
        }
        item
    }

    /// Takes the first item, lane by lane, for which `is` holds.
    pub(crate) fn remove(&mut self, is: impl Fn(&T) -> bool) -> Option<T> {
        let (caller, place) = self
            .lanes
            .iter()
            .find_map(|(caller, lane)| Some((caller.clone(), lane.iter().position(&is)?)))?;
        let lane = self.lanes.get_mut(&caller)?;
        let item = lane.remove(place);
        if lane.is_empty() {
            self.lanes.remove(&caller);
            self.order.retain(|name| *name != caller);
        }
        item
    }

    /// All items, lane by lane.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lanes.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(letter: char) -> CallerName {
        CallerName::Key(letter.to_string().into())
    }

    fn rounds(items: &[(char, u32)]) -> Rounds<u32> {
        let mut rounds = Rounds::default();
        items.iter().for_each(|(caller, item)| rounds.push(&name(*caller), *item));
        rounds
    }

    fn rest(mut rounds: Rounds<u32>) -> Vec<u32> {
        std::iter::from_fn(|| rounds.take()).collect()
    }

    #[test]
    fn callers_take_turns_and_each_keeps_its_order() {
        let items = [('a', 1), ('a', 2), ('a', 3), ('b', 11), ('a', 4), ('b', 12), ('c', 21)];
        assert_eq!(rest(rounds(&items)), [1, 11, 21, 2, 12, 3, 4]);
        assert_eq!(rest(rounds(&[('a', 1), ('a', 2)])), [1, 2]);
    }

    #[test]
    fn who_comes_later_has_its_turn_after_those_who_wait() {
        let mut rounds = rounds(&[('a', 1), ('a', 2), ('b', 11), ('b', 12)]);
        assert_eq!(rounds.take(), Some(1));
        rounds.push(&name('c'), 21);
        assert_eq!(rest(rounds), [11, 2, 21, 12]);
    }

    #[test]
    fn what_is_discarded_costs_no_turn() {
        let mut rounds = rounds(&[('a', 1), ('a', 2), ('b', 11), ('a', 3)]);
        assert_eq!((rounds.discard(), rounds.front()), (Some(1), Some(&2)));
        assert_eq!(rest(rounds), [2, 11, 3]);
    }

    #[test]
    fn what_is_removed_leaves_the_others_as_they_were() {
        let mut rounds = rounds(&[('a', 1), ('b', 11), ('c', 21), ('c', 22)]);
        assert_eq!(rounds.remove(|item| *item == 11), Some(11));
        assert_eq!(rounds.remove(|item| *item == 11), None);
        assert_eq!(rounds.iter().count(), 3);
        assert_eq!(rest(rounds), [1, 21, 22]);
    }
}
