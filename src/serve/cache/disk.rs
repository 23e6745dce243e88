//! The disk tier's directory: locked, laid out and given its space before anything is written into
//! it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use foyer::{BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCacheProperties};

use super::entry::{CacheKey, Kept};

/// Smallest disk tier: a few blocks.
pub const LEAST_BYTES: u64 = 64 << 20;
/// The unit that is written, recovered and evicted; an entry may not be larger.
const LEAST_BLOCK: u64 = 8 << 20;
/// Largest entry: a block without room for its head. A larger one is kept in memory alone.
pub(super) const MOST_ENTRY: u64 = LEAST_BLOCK - (64 << 10);
const MOST_BLOCKS: u64 = 4096;
/// What foyer calls its files.
const BLOCK_PREFIX: &str = "foyer-storage-";
/// Encodings that wait to be written. What comes faster than the disk takes it is kept in memory
/// alone.
const WRITE_BUFFER: usize = 32 << 20;

/// Why there is no disk tier.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    #[error("the cache directory {} cannot be used: {source}", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("the cache directory {} is in use by another server", .0.display())]
    InUse(PathBuf),
    #[error("there is no room for {bytes} bytes in {}: {source}", .path.display())]
    NoRoom { path: PathBuf, bytes: u64, source: io::Error },
    #[error("the cache in {} cannot be opened: {source}", .path.display())]
    Cache { path: PathBuf, source: foyer::Error },
}

/// The directory, ours until dropped.
pub(super) struct Disk {
    dir: PathBuf,
    bytes: u64,
    _lock: File,
}

impl Disk {
    /// # Errors
    /// When the directory cannot be made or locked.
    pub(super) fn open(dir: &Path, bytes: u64) -> Result<Self, DiskError> {
        let unusable = |source| DiskError::Directory { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        let lock = File::create(dir.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), bytes, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DiskError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// What foyer is to do with it.
    ///
    /// # Errors
    /// When the directory cannot be laid out.
    pub(super) fn engine(
        &self,
    ) -> Result<BlockEngineConfig<CacheKey, Kept, HybridCacheProperties>, DiskError> {
        let device = FsDeviceBuilder::new(&self.dir)
            .with_capacity(usize::try_from(self.bytes).unwrap_or(usize::MAX))
            .build();
        let device = device.map_err(|source| self.failed(source))?;
        let block = LEAST_BLOCK.max(self.bytes / MOST_BLOCKS);
        Ok(BlockEngineConfig::new(device)
            .with_block_size(usize::try_from(block).unwrap_or(usize::MAX))
            .with_buffer_pool_size(WRITE_BUFFER)
            .with_submit_queue_size_threshold(2 * WRITE_BUFFER))
    }

    /// Takes the space that the files promise, so that a disk which fills up later cannot take it
    /// away. Where there is not enough, none of it is kept from others.
    ///
    /// # Errors
    /// `NoRoom`.
    pub(super) fn take_space(&self) -> Result<(), DiskError> {
        let no_room =
            |source| DiskError::NoRoom { path: self.dir.clone(), bytes: self.bytes, source };
        let blocks = self.blocks().map_err(no_room)?;
        let taken = blocks.iter().try_for_each(|path| {
            let file = File::options().read(true).write(true).open(path)?;
            fs4::fs_std::FileExt::allocate(&file, file.metadata()?.len())
        });
        match taken {
            // Some file systems cannot; there the space is taken as it is used.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            Err(error) => {
                for path in &blocks {
                    if let Err(error) = std::fs::remove_file(path) {
                        tracing::debug!(path = %path.display(), %error, "a block of the cache \
                            stays");
                    }
                }
                Err(no_room(error))
            }
            Ok(()) => Ok(()),
        }
    }

    /// The files that foyer made, by its name for them: the directory may hold other files.
    pub(super) fn blocks(&self) -> io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.dir)?.collect::<io::Result<Vec<_>>>()?;
        let mut blocks: Vec<PathBuf> = entries.iter().map(|entry| entry.path()).collect();
        blocks.retain(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(BLOCK_PREFIX))
        });
        Ok(blocks)
    }

    pub(super) fn failed(&self, source: foyer::Error) -> DiskError {
        DiskError::Cache { path: self.dir.clone(), source }
    }
}
