//! Whose encodings a request may use.
//!
//! A tile's key is the hash of its pixels, and anyone who has the tile, or saw its key in a log,
//! can name it. If encodings were held by that key alone, a caller could ask whether another had
//! sent a tile, and get variants of a tile that they never had. So an encoding is held by a key of
//! the tile and its tenant; callers see the tile's own.

use restain_bundle::codec::TileKey;

/// Whom encodings are held for: one holder of a key, or everyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenant(Option<[u8; 32]>);

impl Tenant {
    /// Everyone: callers without keys, and a server that shares its encodings.
    pub const SHARED: Self = Self(None);

    /// The holder of the key of this name, whose tokens may change.
    pub fn named(name: &str) -> Self {
        Self(Some(blake3::derive_key("restain 2026 tenant of encodings", name.as_bytes())))
    }

    /// What the encoding of a tile is held by.
    pub fn held_by(&self, tile: &TileKey) -> TileKey {
        match &self.0 {
            None => *tile,
            // A hash with a key is a MAC (BLAKE3, section 2.3).
            Some(key) => TileKey::from_bytes(*blake3::keyed_hash(key, tile.as_bytes()).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_hold_a_tile_each_by_a_key_of_their_own() {
        let (tile, other) = (TileKey::from_bytes([1; 32]), TileKey::from_bytes([2; 32]));
        let (a, b) = (Tenant::named("a"), Tenant::named("b"));
        assert_eq!(a.held_by(&tile), Tenant::named("a").held_by(&tile));
        let held = [a.held_by(&tile), b.held_by(&tile), a.held_by(&other), tile];
        let distinct: std::collections::HashSet<_> = held.iter().map(TileKey::as_bytes).collect();
        assert_eq!(distinct.len(), held.len());
        assert_eq!(Tenant::SHARED.held_by(&tile), tile);
    }
}
