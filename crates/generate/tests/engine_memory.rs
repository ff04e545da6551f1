//! The memory of an engine's cache, in a process of its own, so that nothing else allocates beside it.

mod common;

use burn::tensor::Device;
use common::Tiny;
use foehn_generate::{Engine, EngineConfig, GenerateConfig, Request};
use foehn_kernels::{heap_in_use, keep_freed_memory};
use foehn_mistral::{Base, Mistral, MistralConfig};

/// A short request that copies its beginning takes the place of a long one that nobody uses any more. What the long one
/// had must not stay in memory beside what is counted.
#[test]
fn a_short_request_keeps_no_memory_of_a_long_one() {
    // So that large blocks are counted too.
    keep_freed_memory();
    let config = MistralConfig::from_json(
        r#"{"model_type": "mistral", "vocab_size": 258, "hidden_size": 256, "intermediate_size": 512,
            "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "max_position_embeddings": 4096, "sliding_window": null,
            "tie_word_embeddings": false}"#,
    );
    let (model, tiny) =
        (Mistral::synthetic(&config.unwrap(), Base::Q8_0, &Device::flex(), &mut |_, _| {}), Tiny::new(1, 0.2));
    let engine = EngineConfig { max_batch: 4, context: 2048, cache_tokens: 8 * 1000, ..EngineConfig::default() };
    let mut engine = Engine::new("base", model, tiny.tokenizer.clone(), engine).unwrap();
    let mut answer = |prompt: Vec<u32>| {
        let config = GenerateConfig { max_new_tokens: 2, ..GenerateConfig::default() };
        engine.add(Request::new("base", prompt, config)).unwrap();
        while !engine.is_idle() {
            engine.step(&mut |_, _| ());
        }
    };
    let of = |seed: usize, length: usize| (0..length).map(move |at| ((at * 7 + seed * (at + 3)) % 251) as u32);
    // The engine has eight sequences. The short ones share too little to take one of another's over.
    let mut after = |long: usize| {
        (0..long).for_each(|n| answer(of(1 + n, 900).collect()));
        (0..16).for_each(|n| answer((0..64).chain(of(100 + 16 * long + n, 140)).collect()));
        heap_in_use()
    };
    let (Some(one), Some(eight)) = (after(1), after(8)) else { return };
    // Keys and values of 768 rows, by which 1,024 exceed 256, in half precision: two layers, two heads of 32.
    let kept = 768 * 2 * 2 * 2 * 32 * 2;
    assert!(eight < one + 2 * kept, "{} bytes more after eight long requests than after one", eight - one);
}
