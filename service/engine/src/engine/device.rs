//! Where the forward runs, as people name it.

use std::fmt;
use std::str::FromStr;

/// Where the forward runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// All NVIDIA cards that this process sees, if the build supports them; else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// NVIDIA cards by their numbers, each with a worker of its own over one queue; all that the process
    /// sees if there are no numbers.
    Cuda(Vec<usize>),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("`{text}` is not one of auto, cpu, cuda, cuda:0, cuda:0,1 and so on");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(Vec::new())),
            _ => {
                let numbers = text.strip_prefix("cuda:").ok_or_else(unknown)?.split(',');
                let cards = numbers.map(str::parse).collect::<Result<Vec<usize>, _>>();
                let cards = cards.map_err(|_| unknown())?;
                match cards.iter().enumerate().find(|(i, card)| cards[..*i].contains(card)) {
                    None => Ok(Self::Cuda(cards)),
                    Some((_, card)) => Err(format!("`{text}` names card `{card}` twice")),
                }
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(cards) => {
                let numbers: Vec<String> = cards.iter().map(usize::to_string).collect();
                let colon = if cards.is_empty() { "" } else { ":" };
                write!(f, "cuda{colon}{}", numbers.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number read as another card would load the model where somebody else works.
    #[test]
    fn reads_what_it_writes_and_names_what_it_does_not_read() {
        for (text, device) in [
            ("auto", Device::Auto),
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(vec![])),
            ("cuda:3", Device::Cuda(vec![3])),
            ("cuda:1,0", Device::Cuda(vec![1, 0])),
        ] {
            assert_eq!(text.parse(), Ok(device.clone()));
            assert_eq!(device.to_string(), text);
        }
        for text in ["gpu", "cuda:", "cuda:a", "cuda:0,", "cuda0", "cuda:-1", ""] {
            let error = text.parse::<Device>().unwrap_err();
            assert!(error.starts_with(&format!("`{text}` is not one of auto, cpu")), "{error}");
        }
        assert_eq!("cuda:1,1".parse::<Device>(), Err("`cuda:1,1` names card `1` twice".to_owned()));
    }
}
