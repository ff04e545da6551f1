//! Packing, splitting and sharing give the same results as each sample alone, computed from the logits in double
//! precision.

use burn::tensor::Device;
use foehn_mistral::{Base, Mistral, MistralConfig};
use foehn_score::{NotFinite, log_probs, packed, passes};
use foehn_tokens::{Batch, Sample};
use foehn_weights::Weights;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const VOCAB: usize = 96;

fn config() -> MistralConfig {
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "eos_token_id": 2,
    });
    MistralConfig::from_json(&config.to_string()).unwrap()
}

fn model() -> Mistral {
    Mistral::synthetic(&config(), Base::F32, &Device::flex(), &mut |_, _| ())
}

/// Samples that share beginnings; a random part of each is trained.
fn samples(seed: u64) -> Vec<Sample> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let beginning: Vec<u32> = (0..8).map(|_| random.random_range(0..VOCAB as u32)).collect();
    let sample = |_| {
        let mut ids = beginning[..random.random_range(1..=8)].to_vec();
        ids.extend((0..random.random_range(1..12)).map(|_| random.random_range(0..VOCAB as u32)));
        let mut mask: Vec<bool> = ids.iter().map(|_| random.random()).collect();
        mask[0] = false;
        *mask.last_mut().unwrap() = true;
        Sample::new(ids, mask).unwrap()
    };
    (0..17).map(sample).collect()
}

/// By the definition: the logits of all rows, and a log-softmax in double precision.
fn reference(model: &Mistral, sample: &Sample) -> Vec<f64> {
    let whole = Sample::from_text(sample.input_ids().to_vec()).unwrap();
    let batch = Batch::pack(&[&whole]);
    let logits: Vec<f32> = model.logits(model.forward(packed(&batch))).into_data().try_into_vec().unwrap();
    let rows = logits.chunks_exact(VOCAB).zip(&sample.input_ids()[1..]).zip(&sample.loss_mask()[1..]);
    let log_prob = |((row, &id), _): ((&[f32], &u32), &bool)| {
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        f64::from(row[id as usize]) - sum.ln()
    };
    rows.filter(|(_, trained)| **trained).map(log_prob).collect()
}

#[test]
fn every_cut_gives_what_the_definition_gives() {
    let model = model();
    for seed in 0..4 {
        let samples = samples(seed);
        let borrowed: Vec<&Sample> = samples.iter().collect();
        for max_rows in [1, 20, 70, usize::MAX] {
            let found = log_probs(&model, &borrowed, max_rows).unwrap();
            assert_eq!(found.len(), samples.len());
            for (sample, found) in samples.iter().zip(found) {
                let expected = reference(&model, sample);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.into_iter().zip(expected) {
                    assert!((f64::from(found) - expected).abs() < 1e-5, "{found} and {expected}");
                }
            }
        }
    }
}

#[test]
fn no_pass_is_larger_than_asked_and_all_samples_are_there() {
    let (model, samples) = (model(), samples(7));
    let borrowed: Vec<&Sample> = samples.iter().collect();
    for max_rows in [1, 20, 70, usize::MAX] {
        let found: Vec<_> = passes(&model, &borrowed, max_rows).map(Result::unwrap).collect();
        assert!(found.iter().all(|pass| pass.rows <= max_rows || pass.log_probs.len() == 1));
        assert_eq!(found.iter().map(|pass| pass.log_probs.len()).sum::<usize>(), samples.len());
    }
    assert!(log_probs(&model, &[], 8).unwrap().is_empty());
}

#[test]
fn a_token_without_a_probability_is_named() {
    let config = config();
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    model.save(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    // The largest finite numbers: the file can be read, and the output of the last norm overflows.
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let place = &text["model.norm.weight"]["data_offsets"];
    let [from, to] = [0, 1].map(|end| header + place[end].as_u64().unwrap() as usize);
    bytes[from..to].chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&f32::MAX.to_le_bytes()));
    std::fs::write(&path, bytes).unwrap();
    let weights = Weights::open(&path).unwrap();
    let broken = Mistral::load_as(&config, &weights, Base::F32, &Device::flex(), &mut |_, _| ()).unwrap();
    let samples = samples(3);
    let borrowed: Vec<&Sample> = samples.iter().collect();
    let NotFinite { sample, id, value } = log_probs(&broken, &borrowed, 20).unwrap_err();
    assert!(samples[sample].input_ids().contains(&id) && !value.is_finite());
}
