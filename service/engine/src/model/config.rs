//! `config.json`, refused where it asks for something that the forward does not compute.

use crate::LoadError;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The shape of a Qwen3 decoder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) tie_word_embeddings: bool,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    architectures: Vec<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    #[serde(default)]
    tie_word_embeddings: bool,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    layer_types: Option<Vec<String>>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    quantization_config: Option<Value>,
}

const ARCHITECTURE: &str = "Qwen3ForCausalLM";

impl Config {
    /// Parses and checks `json`; `path` is for messages.
    pub(crate) fn parse(json: &[u8], path: &Path) -> Result<Self, LoadError> {
        let raw: Raw = serde_json::from_slice(json).map_err(|error| LoadError::Invalid {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let unsupported =
            |reason: String| Err(LoadError::Unsupported { path: path.to_owned(), reason });
        if !raw.architectures.iter().any(|name| name == ARCHITECTURE) {
            let found = match raw.architectures.as_slice() {
                [] => "none".to_owned(),
                names => names.join(", "),
            };
            return unsupported(format!("its architecture is {found}, needed is {ARCHITECTURE}"));
        }
        if raw.use_sliding_window
            || raw.layer_types.iter().flatten().any(|kind| kind != "full_attention")
        {
            return unsupported("sliding-window attention; only full attention is".to_owned());
        }
        let mut rope_theta = raw.rope_theta;
        for scaling in raw.rope_scaling.iter().chain(&raw.rope_parameters) {
            // Newer files keep theta in `rope_parameters` beside the kind of scaling.
            rope_theta = rope_theta.or_else(|| scaling.get("rope_theta")?.as_f64());
            let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
            match kind.and_then(Value::as_str) {
                Some("default") => {}
                kind => {
                    let kind = kind.unwrap_or("of unknown type");
                    return unsupported(format!("rope scaling ({kind}); only unscaled rope is"));
                }
            }
        }
        if raw.attention_bias {
            return unsupported("attention bias; only projections without bias are".to_owned());
        }
        if let Some(activation) = raw.hidden_act.filter(|name| name != "silu") {
            return unsupported(format!("the activation {activation}; only silu is"));
        }
        if raw.quantization_config.is_some() {
            return unsupported("quantised weights; only f32, f16 and bf16 weights are".to_owned());
        }
        let config = Self {
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            num_key_value_heads: raw.num_key_value_heads,
            head_dim: raw.head_dim.unwrap_or(128),
            max_position_embeddings: raw.max_position_embeddings,
            rms_norm_eps: raw.rms_norm_eps,
            rope_theta: rope_theta.unwrap_or(10_000.0),
            tie_word_embeddings: raw.tie_word_embeddings,
        };
        config.check().map_err(|reason| LoadError::Invalid { path: path.to_owned(), reason })?;
        Ok(config)
    }

    /// Parameters, a tied head counted once.
    pub(crate) fn parameters(&self) -> u64 {
        let (hidden, head_dim) = (self.hidden_size, self.head_dim);
        let query_width = self.num_attention_heads * head_dim;
        let key_width = self.num_key_value_heads * head_dim;
        let layer = hidden * (2 * query_width + 2 * key_width + 3 * self.intermediate_size + 2)
            + 2 * head_dim;
        let heads = if self.tie_word_embeddings { 1 } else { 2 };
        (heads * self.vocab_size * hidden + self.num_hidden_layers * layer + hidden) as u64
    }

    fn check(&self) -> Result<(), String> {
        let counts = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, count) in counts {
            if count == 0 || count > 1 << 24 {
                return Err(format!("{name} is {count}"));
            }
        }
        let (heads, key_value_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(key_value_heads) {
            return Err(format!(
                "num_attention_heads ({heads}) is no multiple of num_key_value_heads ({key_value_heads})"
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim ({}) is odd", self.head_dim));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(change: &Value) -> Result<Config, LoadError> {
        let mut config = json!({
            "architectures": ["Qwen3ForCausalLM"], "vocab_size": 100, "hidden_size": 64,
            "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": true,
            "hidden_act": "silu", "attention_bias": false, "use_sliding_window": false,
            "sliding_window": null, "rope_scaling": null
        });
        for (key, value) in change.as_object().expect("an object") {
            config[key] = value.clone();
        }
        Config::parse(config.to_string().as_bytes(), Path::new("config.json"))
    }

    #[test]
    fn reads_old_and_new_ways_to_write_rope() {
        assert!((parse(&json!({})).unwrap().rope_theta - 1e6).abs() < 1.0);
        let new = json!({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}});
        assert!((parse(&new).unwrap().rope_theta - 5e5).abs() < 1.0);
    }

    /// A checkpoint computed in another way must be refused, not scored wrongly.
    #[test]
    fn refuses_what_the_forward_does_not_compute() {
        for (change, word) in [
            (json!({"architectures": ["LlamaForCausalLM"]}), "LlamaForCausalLM"),
            (json!({"architectures": []}), "none"),
            (json!({"use_sliding_window": true}), "sliding-window"),
            (json!({"layer_types": ["full_attention", "sliding_attention"]}), "sliding-window"),
            (json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}), "yarn"),
            (json!({"rope_scaling": {"factor": 4.0}}), "rope scaling"),
            (json!({"rope_parameters": {"rope_type": "linear"}}), "linear"),
            (json!({"attention_bias": true}), "bias"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"quantization_config": {"bits": 4}}), "quantised"),
            (json!({"num_key_value_heads": 3}), "num_key_value_heads (3)"),
            (json!({"head_dim": 15}), "head_dim"),
            (json!({"hidden_size": 0}), "hidden_size is 0"),
            (json!({"hidden_size": "big"}), "invalid type"),
        ] {
            let message = parse(&change).unwrap_err().to_string();
            assert!(message.contains(word), "{change}: {message}");
        }
    }
}
