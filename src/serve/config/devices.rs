//! Where encoders run, as people write it: `cpu`, `cuda:0`, `cuda:0,cuda:1`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::engine::Device;

/// One worker for each; a device may be named more than once. All of one kind, because the bits of an encoding depend on
/// it, and a variant must not depend on which of them was free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
        let devices = text.split(',').map(|device| device.trim().parse()).collect::<Result<Vec<Device>, _>>()?;
        match devices.iter().find(|device| device.provider() != devices[0].provider()) {
            Some(other) => Err(format!("`{text}` mixes {} and {other}: name devices of one kind", devices[0])),
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

impl TryFrom<String> for Devices {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Devices> for String {
    fn from(devices: Devices) -> Self {
        devices.to_string()
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
        assert!("cpu,cuda:0".parse::<Devices>().unwrap_err().contains("one kind"));
        assert!("".parse::<Devices>().unwrap_err().contains("cuda:0"));
    }
}
