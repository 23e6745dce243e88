use half::f16;
use restain_method::geometry::GeometrySpec;
use restain_method::glass::Glass;
use restain_method::synth::Residual;
use restain_method::windows::Windows;

use super::*;
use crate::serve::batch::Carried;

fn geometry(tiles: usize) -> Geometry {
    // Tiles of 20 pixels in patches of 4: N = 25, h = 120.
    let spec = GeometrySpec {
        image_size: 20 * tiles,
        in_channels: 3,
        patch_size: 4,
        embed_dim: 240,
        depth: 1,
        num_heads: 4,
        mlp_ratio: 1.0,
        style_bias: false,
    };
    Geometry::new(spec).unwrap()
}

fn memory(bytes: u64) -> CacheOptions {
    CacheOptions { memory_bytes: bytes, disk: None }
}

fn disk(dir: &std::path::Path) -> CacheOptions {
    CacheOptions {
        memory_bytes: 1 << 20,
        disk: Some(DiskOptions { dir: dir.to_owned(), bytes: LEAST_DISK_BYTES }),
    }
}

fn encoding(value: u16) -> Arc<TileEncoding> {
    let (geometry, residual) = (geometry(1), Residual::Narrow(vec![1; 20 * 20 * 3].into()));
    let latents = vec![f16::from_bits(value); geometry.tile_latents()];
    Arc::new(TileEncoding::new(
        (20, 20),
        Windows::of_canvas(20, (20, 20)),
        30.0,
        (geometry.tile_anatomy(), latents),
        Carried::Residual(residual, Glass::default()),
    ))
}

fn key(value: u16) -> TileKey {
    TileKey::of_pixels(1, 1, &value.to_le_bytes())
}

async fn open(options: &CacheOptions) -> Arc<EncodingsCache> {
    EncodingsCache::open(options, Arc::new(Metrics::new().unwrap())).await.unwrap()
}

fn metric(cache: &EncodingsCache, name: &str) -> f64 {
    let text = cache.metrics.text().unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_kept_is_found_in_its_own_scope_and_in_no_other() {
    let cache = open(&memory(1 << 20)).await;
    let scope = cache.scope(&["digest", "fp32", "cpu"], &geometry(1));
    scope.keep(&key(1), &encoding(7));
    assert_eq!(scope.get(&key(1)).await, Some(encoding(7)));
    assert_eq!(scope.get(&key(2)).await, None);
    for other in [["digest", "int8", "cpu"], ["other", "fp32", "cpu"], ["digestf", "p32", "cpu"]] {
        assert_eq!(cache.scope(&other, &geometry(1)).get(&key(1)).await, None);
    }
    assert_eq!(
        (
            metric(&cache, "restain_encodings_cache_hits_total"),
            metric(&cache, "restain_encodings_cache_misses_total")
        ),
        (1.0, 4.0)
    );
}

#[tokio::test]
async fn an_entry_of_another_length_is_a_miss() {
    let cache = open(&memory(1 << 20)).await;
    cache.scope(&["a"], &geometry(1)).keep(&key(1), &encoding(7));
    assert_eq!(cache.scope(&["a"], &geometry(2)).get(&key(1)).await, None);
}

#[tokio::test]
async fn memory_is_bounded_by_its_bytes() {
    let cache = open(&memory(100_000)).await;
    let scope = cache.scope(&["a"], &geometry(1));
    for value in 0..50 {
        scope.keep(&key(value), &encoding(value));
    }
    assert!(cache.cache.memory().usage() <= 100_000);
    assert!(metric(&cache, "restain_encodings_cache_evictions_total") >= 40.0);
    assert!(metric(&cache, "restain_encodings_cache_bytes") <= 100_000.0);
}

#[tokio::test]
async fn the_disk_remembers_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(&disk(dir.path())).await;
    let scope = cache.scope(&["a"], &geometry(1));
    (0..40).for_each(|value| scope.keep(&key(value), &encoding(value)));
    cache.close().await;
    drop((scope, cache));

    let cache = open(&disk(dir.path())).await;
    let scope = cache.scope(&["a"], &geometry(1));
    for value in 0..40 {
        assert_eq!(scope.get(&key(value)).await, Some(encoding(value)), "{value}");
    }
    assert_eq!(scope.get(&key(99)).await, None);
}

#[tokio::test]
async fn damage_on_disk_is_a_miss_and_never_another_tile() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(&disk(dir.path())).await;
    let scope = cache.scope(&["a"], &geometry(1));
    (0..40).for_each(|value| scope.keep(&key(value), &encoding(value)));
    cache.close().await;
    drop((scope, cache));

    // A byte in every 8 KiB of every block: no entry of 12 KB is left whole.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().skip(5000).step_by(8192).for_each(|byte| *byte ^= 0x55);
        std::fs::write(path, bytes).unwrap();
    }
    let cache = open(&disk(dir.path())).await;
    let scope = cache.scope(&["a"], &geometry(1));
    let mut found = 0;
    for value in 0..40 {
        let got = scope.get(&key(value)).await;
        assert!(got.is_none() || got == Some(encoding(value)), "{value}");
        found += usize::from(got.is_some());
    }
    assert_eq!(found, 0, "each entry was hit");
    scope.keep(&key(1), &encoding(1));
    assert_eq!(scope.get(&key(1)).await, Some(encoding(1)), "and the cache goes on");
}

#[tokio::test]
async fn a_directory_in_use_or_of_no_use_leaves_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&disk(dir.path())).await;
    let second = open(&disk(dir.path())).await;
    let file = dir.path().join("a file");
    std::fs::write(&file, "not a directory").unwrap();
    let third = open(&disk(&file)).await;
    for (cache, works) in [(&first, true), (&second, false), (&third, false)] {
        assert_eq!(cache.disk_works(), works);
        assert_eq!(
            metric(cache, "restain_encodings_cache_disk_errors_total"),
            f64::from(u8::from(!works))
        );
        let scope = cache.scope(&["a"], &geometry(1));
        scope.keep(&key(1), &encoding(1));
        assert_eq!(scope.get(&key(1)).await, Some(encoding(1)));
    }
}

#[tokio::test]
async fn what_else_lies_in_the_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let somebodys = dir.path().join("slides.txt");
    std::fs::write(&somebodys, "mine").unwrap();
    open(&disk(dir.path())).await.close().await;
    assert_eq!(Disk::open(dir.path(), LEAST_DISK_BYTES).unwrap().blocks().unwrap().len(), 8);
    assert_eq!(std::fs::read_to_string(somebodys).unwrap(), "mine");
}

#[tokio::test]
async fn windows_are_held_until_the_last_who_wants_them_has_left() {
    let cache = open(&memory(1 << 20)).await;
    let scope = cache.scope(&["digest"], &geometry(1));
    let windows = [key(1), key(2)];
    let [first, second] = [(); 2].map(|()| scope.want(windows.to_vec()));
    windows.iter().for_each(|key| scope.keep(key, &encoding(7)));
    drop(first);
    assert!(windows.iter().all(|key| scope.peek(key).is_some()));
    drop(second);
    assert!(windows.iter().all(|key| scope.peek(key).is_none()));
}
