//! Where encoders run, as people write it: `cpu`, `cuda:0`, `cuda:0,cuda:1`.

use std::fmt;
use std::str::FromStr;

use super::Config;
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

impl Config {
    /// The device of each encoder of a model that runs on `devices`.
    pub fn encoders_on(&self, devices: &Devices) -> Vec<Device> {
        let each = |device: Device| match self.encoders_per_device {
            0 if device.gpu().is_some() => 2,
            0 => 1,
            asked => asked,
        };
        devices.0.iter().flat_map(|&device| std::iter::repeat_n(device, each(device))).collect()
    }

    /// CPU threads of one of these encoders: what was asked for, or an equal share.
    pub fn threads_of_encoder(&self, encoders: &[Device]) -> usize {
        let on_cpu = encoders.iter().filter(|device| **device == Device::Cpu).count();
        match self.encoder_threads {
            0 => (self.threads.get() / on_cpu.max(1)).max(1),
            asked => asked,
        }
    }

    /// Most tiles that one of these encoders takes at once. A CPU's caches hold the activations of few tiles: measured at
    /// the base size, two threads are fastest at two tiles, and in int8 by a third slower at sixteen.
    pub fn largest_batch(&self, encoders: &[Device]) -> usize {
        match self.max_batch {
            0 if encoders.contains(&Device::Cpu) => self.threads_of_encoder(encoders).min(16),
            0 => 32,
            asked => asked,
        }
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

    #[test]
    fn a_gpu_has_two_encoders_unless_told_otherwise() {
        let on = |devices: &str, per_device| {
            Config { encoders_per_device: per_device, ..Config::default() }
                .encoders_on(&devices.parse().unwrap())
        };
        assert_eq!(
            on("cuda:0,cuda:1", 0),
            [Device::Cuda(0), Device::Cuda(0), Device::Cuda(1), Device::Cuda(1)]
        );
        assert_eq!(
            (on("cpu", 0), on("tensorrt:1", 1)),
            (vec![Device::Cpu], vec![Device::TensorRt(1)])
        );
        let config = Config { threads: 4.try_into().unwrap(), ..Config::default() };
        assert_eq!(
            (
                config.threads_of_encoder(&[Device::Cpu; 2]),
                config.threads_of_encoder(&[Device::Cuda(0); 2])
            ),
            (2, 4)
        );
        assert_eq!(
            (config.largest_batch(&[Device::Cpu; 2]), config.largest_batch(&[Device::Cuda(0)])),
            (2, 32)
        );
    }
}
