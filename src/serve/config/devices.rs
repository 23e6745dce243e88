//! Where encoders run, as people write it: `cpu`, `cuda:0`, `cuda:0,cuda:1`.

use std::fmt;
use std::str::FromStr;

use super::Config;
use restain_bundle::EncoderBytes;
use restain_engine::Device;

/// A device may be named more than once. All of one kind, because the bits of an encoding depend on
/// it, and a variant must not depend on which of them was free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices(pub Vec<Device>);

impl Devices {
    /// Of all of them: at least one, all of one kind.
    pub fn provider(&self) -> &'static str {
        self.0[0].provider()
    }
}

impl FromStr for Devices {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let devices = text
            .split(',')
            .map(|device| device.trim().parse())
            .collect::<Result<Vec<Device>, _>>()?;
        match devices.iter().find(|device| device.provider() != devices[0].provider()) {
            Some(other) => Err(format!(
                "{} and {other} are devices of two kinds: name devices of one kind",
                devices[0]
            )),
            None => Ok(Self(devices)),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(","))
    }
}

/// How the encoders of a model share its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The device of each encoder, and its CPU threads.
    pub encoders: Vec<(Device, usize)>,
    /// Whether the last of them has all CPU threads, for a tile that comes alone to an idle server.
    pub has_lone: bool,
    /// Most tiles that an encoder takes at once.
    pub largest_batch: usize,
}

impl Layout {
    /// The encoders that share the load.
    pub fn sharing(&self) -> usize {
        self.encoders.len() - usize::from(self.has_lone)
    }
}

/// Most encoders that share the threads of a CPU: each has its own activations, and its own copy of
/// weights that cannot be shared.
const MOST_SHARING: usize = 4;
/// Most bytes of all copies of the weights, for several kinds of encoders.
const MOST_COPIES: u64 = 1 << 30;
/// Copies of shared weights: as they are, and packed as the products want them.
pub(crate) const SHARED_COPIES: u64 = 2;
/// Most tiles that a CPU's encoder takes at once: its caches hold the activations of few tiles.
/// Measured at the base size, two threads are fastest at two tiles, and in int8 by a third slower
/// at sixteen.
const MOST_ON_CPU: usize = 16;

impl Config {
    /// Chooses the layout of a model that runs on `devices`, whose weights have so many bytes.
    ///
    /// On a CPU, encoders of one thread do not wait for each other: as many as there are threads
    /// encode more than one with all threads, and each request waits less. One tile alone is
    /// fastest with all threads. So there are both, unless an option says otherwise or the copies
    /// of the weights would be too large.
    pub fn layout(&self, devices: &Devices, weights: EncoderBytes) -> Layout {
        let threads = self.threads.get();
        let sharing = threads.min(MOST_SHARING);
        let is_left_to_us = self.encoders_per_device == 0 && self.encoder_threads == 0;
        let own = weights.own.saturating_mul(sharing as u64 + 1);
        let fits = own.saturating_add(weights.shared.saturating_mul(SHARED_COPIES)) <= MOST_COPIES;
        let has_lone = is_left_to_us && threads > 1 && fits && devices.0 == [Device::Cpu];
        let encoders = if has_lone {
            let shared = std::iter::repeat_n((Device::Cpu, threads / sharing), sharing);
            shared.chain([(Device::Cpu, threads)]).collect()
        } else {
            self.equal_encoders(devices)
        };
        let largest_batch = match self.max_batch {
            0 if encoders[0].0 == Device::Cpu => encoders[0].1.min(MOST_ON_CPU),
            0 => 32,
            asked => asked,
        };
        Layout { encoders, has_lone, largest_batch }
    }

    /// As many on each device as were asked for, with equal shares of the threads.
    fn equal_encoders(&self, devices: &Devices) -> Vec<(Device, usize)> {
        let each = |device: Device| match self.encoders_per_device {
            0 if device.gpu().is_some() => 2,
            0 => 1,
            asked => asked,
        };
        let places = devices.0.iter();
        let places: Vec<Device> =
            places.flat_map(|&device| std::iter::repeat_n(device, each(device))).collect();
        let on_cpu = places.iter().filter(|device| **device == Device::Cpu).count();
        let threads = match self.encoder_threads {
            0 => (self.threads.get() / on_cpu.max(1)).max(1),
            asked => asked,
        };
        places.into_iter().map(|device| (device, threads)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_one_kind_is_read_as_it_is_written() {
        for text in ["cpu", "cpu,cpu", "cuda:0,cuda:1"] {
            assert_eq!(text.parse::<Devices>().unwrap().to_string(), text);
        }
        assert!("cuda:0,tensorrt:0".parse::<Devices>().unwrap_err().contains("one kind"));
        assert!("cpu,cuda:0".parse::<Devices>().unwrap_err().contains("one kind"));
        assert!("".parse::<Devices>().unwrap_err().contains("cuda:0"));
    }

    /// With weights of which each encoder has its own.
    fn layout(devices: &str, own: u64, config: Config) -> Layout {
        config.layout(&devices.parse().unwrap(), EncoderBytes { own, shared: 0 })
    }

    fn with_threads(threads: usize) -> Config {
        Config { threads: threads.try_into().unwrap(), ..Config::default() }
    }

    #[test]
    fn a_gpu_has_two_encoders_unless_an_option_says_otherwise() {
        let on = |devices: &str, encoders_per_device| {
            let config = Config { encoders_per_device, ..with_threads(4) };
            let Layout { encoders, has_lone, largest_batch } = layout(devices, 1 << 20, config);
            assert_eq!((has_lone, largest_batch), (false, 32));
            encoders
        };
        let [first, second] = [Device::Cuda(0), Device::Cuda(1)].map(|device| (device, 4));
        assert_eq!(on("cuda:0,cuda:1", 0), [first, first, second, second]);
        assert_eq!(on("tensorrt:1", 1), [(Device::TensorRt(1), 4)]);
    }

    #[test]
    fn a_cpu_has_encoders_that_share_its_threads_and_one_with_all_of_them() {
        for (threads, sharing, each) in [(2, 2, 1), (3, 3, 1), (4, 4, 1), (16, 4, 4)] {
            let found = layout("cpu", 28 << 20, with_threads(threads));
            let mut expected = vec![(Device::Cpu, each); sharing];
            expected.push((Device::Cpu, threads));
            assert_eq!((&found.encoders, found.has_lone), (&expected, true));
            assert_eq!((found.sharing(), found.largest_batch), (sharing, each));
        }
        assert_eq!(layout("cpu", 1, with_threads(1)).encoders, [(Device::Cpu, 1)]);
    }

    #[test]
    fn an_option_or_large_weights_leave_one_kind_of_encoder() {
        let one = Layout { encoders: vec![(Device::Cpu, 2)], has_lone: false, largest_batch: 2 };
        assert_eq!(layout("cpu", 350 << 20, with_threads(2)), one);
        // The paper's base model and its deeper one, in weights that are shared.
        let shared = |mib: u64| {
            let weights = EncoderBytes { own: 1 << 20, shared: mib << 20 };
            with_threads(16).layout(&Devices(vec![Device::Cpu]), weights).encoders.len()
        };
        assert_eq!((shared(330), shared(1230)), (5, 1));
        let asked = |encoders_per_device, encoder_threads| Config {
            encoders_per_device,
            encoder_threads,
            ..with_threads(4)
        };
        let found = |config| layout("cpu", 1 << 20, config).encoders;
        assert_eq!(found(asked(1, 0)), [(Device::Cpu, 4)]);
        assert_eq!(found(asked(0, 3)), [(Device::Cpu, 3)]);
        assert_eq!(layout("cpu,cpu", 1, with_threads(4)).encoders, [(Device::Cpu, 2); 2]);
    }
}
