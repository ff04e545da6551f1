//! Compares the model, the gradients of its adapters and ten training steps with transformers and PEFT.
//!
//! The fixtures are made by `tests/golden/model.py`; the method is that of llm.c's `test_gpt2.c`.

mod common;

use burn::tensor::{Tensor, TensorData};
use common::{Golden, assert_close, devices};
use foehn_kernels::{Rotary, linear_cross_entropy, projection, rms_norm};
use foehn_lora::Adapter;
use foehn_weights::Weights;

const MODELS: [&str; 2] = ["gqa", "window"];

#[test]
fn hidden_states_and_logits() {
    for (name, device) in
        MODELS.into_iter().flat_map(|name| devices().into_iter().map(move |(_, device)| (name, device)))
    {
        let golden = Golden::on(name, device);
        for (prefix, adapted) in [("base", false), ("lora", true)] {
            let mut model = golden.model();
            if adapted {
                let adapter = Adapter::load(&golden.folder.join("adapter_init")).unwrap();
                foehn_lora::attach(&mut model, &adapter).unwrap();
            }
            let batch = golden.rows(&[0]);
            let blocks = model.forward_blocks(batch.packed());
            for (index, hidden) in blocks.into_iter().enumerate() {
                let key = match index {
                    0 => format!("{prefix}.hidden.embed"),
                    index => format!("{prefix}.hidden.block.{}", index - 1),
                };
                assert_close(&key, hidden, &golden.expected(&key), 1e-4, 1e-5);
            }
            let hidden = model.forward(batch.packed());
            let key = format!("{prefix}.hidden.norm");
            assert_close(&key, hidden.clone(), &golden.expected(&key), 1e-4, 1e-5);
            let key = format!("{prefix}.logits");
            assert_close(&key, model.logits(hidden), &golden.expected(&key), 1e-4, 1e-5);
        }
    }
}

/// The first layer's queries and keys after the rotary embedding.
#[test]
fn rotary_output() {
    for (name, device) in
        MODELS.into_iter().flat_map(|name| devices().into_iter().map(move |(_, device)| (name, device)))
    {
        let golden = Golden::on(name, device.clone());
        let mut model = golden.model();
        let config = model.config().clone();
        let checkpoint = Weights::open(&golden.folder).unwrap();
        let (weight, _) = checkpoint.load_f32("model.layers.0.input_layernorm.weight").unwrap();
        let weight = Tensor::<1>::from_data(TensorData::from(weight.as_slice()), &device);
        let batch = golden.rows(&[0]);
        let rows = batch.input_ids.len();
        let rotary = Rotary::new(&batch.position_ids, 1, &config.rope(), &device);
        for (prefix, adapted) in [("base", false), ("lora", true)] {
            if adapted {
                let adapter = Adapter::load(&golden.folder.join("adapter_init")).unwrap();
                foehn_lora::attach(&mut model, &adapter).unwrap();
            }
            let embedded = model.forward_blocks(batch.packed()).swap_remove(0);
            let normed = rms_norm(embedded, weight.clone(), config.rms_norm_eps);
            let projections = model.projections();
            for (which, index, heads) in [("q", 0, config.num_attention_heads), ("k", 1, config.num_key_value_heads)] {
                let projected = projection(normed.clone(), projections[index].1.linear());
                let split = projected.reshape([1, rows, heads, config.head_dim]).swap_dims(1, 2);
                let key = format!("{prefix}.rope.{which}");
                assert_close(&key, rotary.rotate_keys(split), &golden.expected(&key), 1e-5, 1e-5);
            }
        }
    }
}

#[test]
fn loss_and_every_gradient() {
    for (name, device) in
        MODELS.into_iter().flat_map(|name| devices().into_iter().map(move |(_, device)| (name, device)))
    {
        let golden = Golden::on(name, device);
        let mut model = golden.model();
        let adapter = Adapter::load(&golden.folder.join("adapter_init")).unwrap();
        foehn_lora::attach_trainable(&mut model, &adapter).unwrap();
        let batch = golden.rows(&[0, 1, 2]);
        let hidden = model.forward(batch.packed());
        let loss = linear_cross_entropy(hidden, model.head(), &batch.targets()).div_scalar(golden.supervised());
        let gradients = loss.backward();
        assert_close("loss", loss, &[golden.loss()], 1e-4, 0.0);
        for parameter in foehn_lora::parameters(&model) {
            let gradient: Tensor<2> = parameter.tensor.grad(&gradients).unwrap();
            let expected = golden.expected(&format!("grad.{}", parameter.name));
            let scale = expected.iter().fold(0.0f32, |max, value| max.max(value.abs()));
            assert_close(&parameter.name, gradient, &expected, 1e-4 * scale, 1e-4);
        }
    }
}
