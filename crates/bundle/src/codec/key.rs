//! Keys of tiles: a hash of the decoded pixels.

use std::fmt;
use std::str::FromStr;

use super::RgbImage;

/// BLAKE3 of a tile's width, its height (u32, little-endian) and its decoded pixels: equal pictures
/// have one key, whatever their file format. Written as 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TileKey([u8; TileKey::BYTES]);

/// The error of a text that is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a tile key: a key is {len} hex digits", len = 2 * TileKey::BYTES)]
pub struct NoKey(String);

impl TileKey {
    /// The length of a key.
    pub const BYTES: usize = 32;

    /// Returns the key of a picture.
    pub fn of(picture: &RgbImage) -> Self {
        Self::of_pixels(picture.width, picture.height, &picture.pixels)
    }

    /// Returns the key of `pixels` `[height, width, 3] u8`.
    pub fn of_pixels(width: usize, height: usize, pixels: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(width as u32).to_le_bytes());
        hasher.update(&(height as u32).to_le_bytes());
        hasher.update(pixels);
        Self(*hasher.finalize().as_bytes())
    }

    /// Takes a key as bytes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the key as bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for TileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl FromStr for TileKey {
    type Err = NoKey;
    fn from_str(text: &str) -> Result<Self, NoKey> {
        let hash =
            blake3::Hash::from_hex(text).map_err(|_| NoKey(text.chars().take(80).collect()))?;
        Ok(Self(*hash.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_tells_sizes_apart() {
        let picture = |width, height| RgbImage { width, height, pixels: vec![9; 18] };
        assert_ne!(TileKey::of(&picture(2, 3)), TileKey::of(&picture(3, 2)));
    }

    #[test]
    fn a_key_is_read_as_it_is_written_and_nothing_else_is() {
        let key = TileKey::of(&RgbImage { width: 1, height: 1, pixels: vec![1, 2, 3] });
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "abc", &"g".repeat(64), &format!("{key}0")] {
            assert!(text.parse::<TileKey>().unwrap_err().to_string().contains("64 hex digits"));
        }
    }
}
