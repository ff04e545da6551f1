//! Checkpoints in eight-bit floats, compared with transformers.

mod common;

use std::path::Path;

use common::{devices, ids};
use foehn_mistral::{Base, Mistral};
use foehn_tokens::Sample;
use foehn_weights::Weights;
use serde_json::Value;

/// Weights in eight-bit floats, with a scale for each matrix or for each block, give the log-probabilities of
/// transformers: in single precision, and dequantised to bfloat16, which is the default of both.
#[test]
fn eight_bit_floats_equal_transformers() {
    let golden: Value = serde_json::from_str(include_str!("golden/fp8.json")).unwrap();
    let sample = Sample::from_text(ids(&golden["input_ids"])).unwrap();
    for form in ["scalar", "blocks"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fp8").join(form);
        let weights = Weights::open(&folder).unwrap();
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = Mistral::config_of(&weights, Some(&text)).unwrap();
        for (device_name, device) in devices() {
            for (base, key) in [(Base::F32, "log_probs"), (Base::Stored, "rounded"), (Base::Bf16, "rounded")] {
                let model = Mistral::load_as(&config, &weights, base, &device, &mut |_, _| ()).unwrap();
                let found = foehn_score::log_probs(&model, &[&sample], 1024).unwrap().remove(0);
                let expected = golden[key][form].as_array().unwrap();
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    let far = (f64::from(*found) - expected.as_f64().unwrap()).abs();
                    assert!(far < 1e-4, "{device_name} {form} {base}: {found} {expected}");
                }
            }
        }
    }
}
