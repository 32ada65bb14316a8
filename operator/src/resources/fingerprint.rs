//! A number for a value, to see whether it has changed.

use serde_json::Value;

/// A number that differs when `value` does, whatever the order of its fields in memory.
pub(crate) fn fingerprint(value: &Value) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    digest(value, &mut hash);
    hash
}

/// FNV-1a over the value with sorted fields.
fn digest(value: &Value, hash: &mut u64) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            eat("{", hash);
            for (name, field) in fields {
                digest(&Value::String(name.clone()), hash);
                digest(field, hash);
            }
            eat("}", hash);
        }
        Value::Array(items) => {
            eat("[", hash);
            for item in items {
                digest(item, hash);
            }
            eat("]", hash);
        }
        leaf => eat(&leaf.to_string(), hash),
    }
}

fn eat(text: &str, hash: &mut u64) {
    for byte in text.bytes() {
        *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}
