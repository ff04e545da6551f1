//! Compares an engine with `generate`, request by request.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use common::Tiny;
use foehn_generate::{
    Constraint, Engine, EngineConfig, Error, Event, GenerateConfig, Request, RequestId, SamplingConfig, StopReason,
    TokenLogprob, generate,
};
use foehn_kernels::LowRank;
use foehn_mistral::{Base, Mistral, MistralConfig, Packed};
use foehn_tokens::Tokenizer;
use proptest::prelude::*;

const NAMES: [&str; 4] = ["base", "one", "two", "three"];

/// A model that is large enough for every storage format, alone and with three adapters of different ranks and targets.
fn models(base: Base) -> [Mistral; 4] {
    let config = MistralConfig::from_json(
        r#"{"model_type": "mistral", "vocab_size": 258, "hidden_size": 256, "intermediate_size": 512,
            "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "max_position_embeddings": 256, "sliding_window": null,
            "tie_word_embeddings": false}"#,
    );
    let device = Device::flex();
    let base = Mistral::synthetic(&config.unwrap(), base, &device, &mut |_, _| {});
    [0, 4, 2, 7].map(|r| {
        let mut model = base.clone();
        for (at, (_, projection)) in
            model.projections_mut().into_iter().enumerate().filter(|(at, _)| r > 0 && at % r != 1)
        {
            let [out, input] = projection.weight().dims();
            let matrix = |rows: usize, columns: usize| {
                let value = |i: usize| ((i * 37 + at * r) % 41) as f32 / 100.0 - 0.2;
                let values: Vec<f32> = (0..rows * columns).map(value).collect();
                Param::from_tensor(Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &device))
            };
            projection.attach(Some(LowRank { a: matrix(r, input), b: matrix(out, r), scale: 0.5, dropout: None }));
        }
        model
    })
}

fn engine(models: &[Mistral; 4], tiny: &Tiny, config: EngineConfig) -> Engine {
    let [base, adapters @ ..] = models.clone();
    let mut engine = Engine::new(NAMES[0], base, tiny.tokenizer.clone(), config).unwrap();
    for (name, model) in NAMES[1..].iter().zip(adapters) {
        engine.add_model(*name, model).unwrap();
    }
    engine
}

/// What was told of a request.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    reused: usize,
    ids: Vec<u32>,
    text: String,
    stop: Option<StopReason>,
    logprobs: Vec<TokenLogprob>,
    of_prompt: Vec<TokenLogprob>,
    failed: Option<String>,
}

fn step(engine: &mut Engine, told: &mut BTreeMap<RequestId, Told>) {
    engine.step(&mut |id, event| {
        let told = told.entry(id).or_default();
        assert!(told.stop.is_none() && told.failed.is_none(), "{id:?} goes on after its end: {event:?}");
        match event {
            Event::Started { reused, logprobs } => (told.reused, told.of_prompt) = (reused, logprobs),
            Event::Token { id, text, logprob } => {
                told.ids.push(id);
                told.text += &text;
                told.logprobs.extend(logprob);
            }
            Event::Finished { text, stop } => {
                told.text += &text;
                told.stop = Some(stop);
            }
            Event::Failed(error) => told.failed = Some(error.to_string()),
        }
    });
}

fn finish(engine: &mut Engine) -> BTreeMap<RequestId, Told> {
    let mut told = BTreeMap::new();
    while !engine.is_idle() {
        step(engine, &mut told);
    }
    told
}

/// As `generate` answers it.
fn alone(models: &[Mistral; 4], tokenizer: &Tokenizer, request: &Request) -> (Vec<u32>, String, StopReason) {
    let model = &models[NAMES.iter().position(|name| *name == request.model).unwrap()];
    let found = generate(model, tokenizer, std::slice::from_ref(&request.prompt), &request.config).unwrap().remove(0);
    (found.output_ids, found.text, found.stop)
}

/// A short, a long or a very long beginning, and an end of its own.
fn prompt(beginning: usize, end: usize) -> Vec<u32> {
    let shared = (0..[3, 40, 150][beginning % 3]).map(|at| (at * 7 % 251) as u32);
    shared.chain((0..=end % 30).map(|at| ((at * 11 + end) % 256) as u32)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Requests of four models join, are cancelled, and leave at random. Every other one gives what `generate` gives.
    #[test]
    fn answers_do_not_depend_on_neighbours(
        seed in any::<u64>(),
        requests in prop::collection::vec((0usize..4, 0usize..3, 0usize..1000, 1usize..30, 0u64..3, 0usize..6, prop::bool::weighted(0.2)), 1..24),
        exact in any::<bool>(), max_batch in 1usize..6, tight in any::<bool>(),
    ) {
        let base = [Base::Q8_0, Base::Q4K, Base::F32][seed as usize % 3];
        let (models, tiny) = (models(base), Tiny::new(1, 0.2));
        // Pieces of the smallest size.
        let budget = if tight { 256 } else { 2000 };
        let config = EngineConfig {
            max_batch, exact, context: 256, cache_tokens: budget, max_pause: Duration::from_nanos(1), ..EngineConfig::default()
        };
        let mut engine = engine(&models, &tiny, config);
        let (mut told, mut expected, mut cancelled) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (model, beginning, end, max_new_tokens, seed, steps, is_cancelled) in requests {
            let temperature = if seed == 0 { 0.0 } else { 1.0 };
            let sampling = SamplingConfig { temperature, seed, top_p: Some(0.9), repetition_penalty: 1.1, ..SamplingConfig::default() };
            let stop = vec!["ab".to_owned()];
            let config = GenerateConfig { max_new_tokens, stop, sampling, exact };
            let request = Request::new(NAMES[model], prompt(beginning, end), config);
            let found = alone(&models, &tiny.tokenizer, &request);
            let id = engine.add(request).unwrap();
            expected.insert(id, found);
            for _ in 0..steps {
                step(&mut engine, &mut told);
                prop_assert!(engine.stats().cached_tokens <= budget);
                prop_assert!(engine.stats().running <= max_batch);
            }
            if is_cancelled {
                engine.cancel(id);
                cancelled.push((id, told.get(&id).cloned()));
            }
        }
        while !engine.is_idle() {
            step(&mut engine, &mut told);
            prop_assert!(engine.stats().cached_tokens <= budget);
        }
        for (id, before) in &cancelled {
            prop_assert_eq!(told.get(id), before.as_ref(), "something was told after the cancellation");
            expected.remove(id);
        }
        for (id, (ids, text, stop)) in expected {
            let told = &told[&id];
            prop_assert_eq!((&told.ids, &told.text, told.stop), (&ids, &text, Some(stop)), "{:?}, exact: {}, {}", id, exact, base);
        }
    }
}

fn greedy(max_new_tokens: usize) -> GenerateConfig {
    GenerateConfig { max_new_tokens, ..GenerateConfig::default() }
}

#[test]
fn what_a_prompt_shares_is_not_computed_again() {
    let (models, tiny) = (models(Base::Q8_0), Tiny::new(1, 0.2));
    let mut engine = engine(&models, &tiny, EngineConfig { context: 256, ..EngineConfig::default() });
    let long = prompt(2, 0);
    // Equal prompts at the same time: the first reads, the others copy all but the last token, each of its own model.
    for name in [NAMES[0], NAMES[0], NAMES[1], NAMES[1], NAMES[0]] {
        engine.add(Request::new(name, long.clone(), greedy(3))).unwrap();
    }
    let told: Vec<Told> = finish(&mut engine).into_values().collect();
    let most = long.len() - 1;
    assert_eq!(told.iter().map(|told| told.reused).collect::<Vec<_>>(), [0, most, 0, most, most]);
    // The next turn of a conversation: the answer is in the cache, but for its last token.
    let longer = [&long[..], &told[0].ids, &[1, 2, 3]].concat();
    engine.add(Request::new(NAMES[0], longer, greedy(3))).unwrap();
    let told = finish(&mut engine).into_values().next().unwrap();
    assert_eq!(told.reused, long.len() + 2);
}

#[test]
fn a_second_turn_is_exact_where_the_engine_is() {
    for exact in [true, false] {
        let (models, tiny) = (models(Base::Q4K), Tiny::new(1, 0.2));
        let mut engine = engine(&models, &tiny, EngineConfig { context: 256, exact, ..EngineConfig::default() });
        let mut prompt = prompt(1, 5);
        for _ in 0..3 {
            let request = Request::new("two", prompt.clone(), GenerateConfig { exact, ..greedy(20) });
            let expected = alone(&models, &tiny.tokenizer, &request);
            engine.add(request).unwrap();
            let told = finish(&mut engine).into_values().next().unwrap();
            if exact {
                assert_eq!((&told.ids, &told.text), (&expected.0, &expected.1));
            }
            prompt.extend(told.ids.iter().chain(&[9, 9, 9]));
        }
    }
}

/// The log-probabilities of every next token, from one packed pass.
fn packed(model: &Mistral, ids: &[u32]) -> Vec<Vec<f64>> {
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let ends = vec![ids.len() as u32; ids.len()];
    let hidden = model.forward(Packed { input_ids: ids, position_ids: &positions, subtree_ends: &ends });
    let logits: Vec<f32> = model.logits(hidden).into_data().try_into_vec().unwrap();
    let softmax = |logits: &[f32]| {
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        logits.iter().map(|logit| f64::from(*logit) - sum.ln()).collect()
    };
    logits.chunks_exact(model.config().vocab_size).map(softmax).collect()
}

#[test]
fn log_probabilities_are_those_of_a_packed_pass() {
    let (models, tiny) = (models(Base::F32), Tiny::new(1, 0.2));
    let config =
        EngineConfig { context: 256, exact: true, max_pause: Duration::from_nanos(1), ..EngineConfig::default() };
    let mut engine = engine(&models, &tiny, config);
    let sampling = SamplingConfig { temperature: 1.5, repetition_penalty: 1.3, seed: 4, ..SamplingConfig::default() };
    for (name, max_new_tokens) in [("base", 12), ("three", 12), ("three", 0), ("one", 5)] {
        let mut request = Request::new(
            name,
            prompt(1, 7),
            GenerateConfig { max_new_tokens, exact: true, sampling: sampling.clone(), stop: Vec::new() },
        );
        request.logprobs = Some(3);
        request.prompt_logprobs = name != "one";
        engine.add(request).unwrap();
    }
    let told: Vec<Told> = finish(&mut engine).into_values().collect();
    let counts = [12, 12, 0, 5];
    for ((told, model), count) in told.iter().zip([0, 3, 3, 1]).zip(counts) {
        let ids = [prompt(1, 7), told.ids.clone()].concat();
        let expected = packed(&models[model], &ids);
        assert_eq!((told.logprobs.len(), told.stop), (count, Some(StopReason::MaxTokens)));
        let first = if told.of_prompt.is_empty() { prompt(1, 7).len() } else { 1 };
        assert_eq!(first == 1, model != 1);
        let found = told.of_prompt.iter().chain(&told.logprobs);
        for (at, found) in (first..ids.len()).zip(found) {
            let row = &expected[at - 1];
            assert_eq!(found.id, ids[at]);
            assert!((f64::from(found.logprob) - row[ids[at] as usize]).abs() < 1e-4, "token {at}");
            let mut order: Vec<f64> = row.clone();
            order.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(found.top.len(), 3);
            for (expected, (id, logprob)) in order.iter().zip(&found.top) {
                assert!((f64::from(*logprob) - expected).abs() < 1e-4, "token {at}");
                assert!((row[*id as usize] - expected).abs() < 1e-4, "token {at}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (models, tiny) = (models(Base::Q8_0), Tiny::new(1, 0.2));
    let config =
        EngineConfig { max_batch: 1, max_waiting: 2, context: 50, cache_tokens: 60, ..EngineConfig::default() };
    let mut engine = engine(&models, &tiny, config);
    let mut attempt = |model: &str, prompt: &[u32], config: GenerateConfig| {
        engine.add(Request::new(model, prompt.to_vec(), config)).map_err(|error| format!("{error:?}"))
    };
    let refused = [
        (attempt("four", &[1], greedy(1)), "UnknownModel"),
        (attempt("one", &[], greedy(1)), "EmptyPrompt"),
        (attempt("one", &[1; 51], greedy(1)), "PromptTooLong"),
        (attempt("one", &[258], greedy(1)), "UnknownToken"),
        (attempt("one", &[1], greedy(0)), "max_new_tokens"),
        (attempt("one", &[1], GenerateConfig { exact: true, ..greedy(1) }), "exact"),
    ];
    for (found, expected) in refused {
        assert!(found.as_ref().is_err_and(|error| error.contains(expected)), "{expected}: {found:?}");
    }
    attempt("one", &[1], greedy(1)).unwrap();
    attempt("one", &[1; 50], greedy(9)).unwrap();
    assert!(attempt("one", &[1], greedy(1)).unwrap_err().contains("QueueFull { waiting: 2 }"));
    let stops: Vec<_> = finish(&mut engine).into_values().map(|told| told.stop.unwrap()).collect();
    assert_eq!(stops, [StopReason::MaxTokens, StopReason::ContextFull]);

    assert!(matches!(engine.add_model("one", models[1].clone()), Err(Error::ModelName { .. })));
    let other = self::models(Base::Q8_0)[0].clone();
    assert!(matches!(engine.add_model("other", other), Err(Error::AnotherBase { .. })));
    let small = EngineConfig { cache_tokens: 5, ..EngineConfig::default() };
    let refused = Engine::new("base", models[0].clone(), tiny.tokenizer.clone(), small);
    assert!(matches!(refused, Err(Error::Setting { field: "cache_tokens", .. })));
}

#[test]
fn models_come_and_go() {
    let (models, tiny) = (models(Base::Q8_0), Tiny::new(1, 0.2));
    let mut engine = engine(&models, &tiny, EngineConfig { max_batch: 2, context: 256, ..EngineConfig::default() });
    let request = |name: &str| Request::new(name, prompt(1, 3), greedy(40));
    let expected = alone(&models, &tiny.tokenizer, &request("two"));
    let kept = engine.add(request("two")).unwrap();
    let [running, waiting] = [(); 2].map(|()| engine.add(request("one")).unwrap());
    let mut told = BTreeMap::new();
    (0..5).for_each(|_| step(&mut engine, &mut told));
    assert!(!engine.remove_model("base") && !engine.remove_model("four"));
    assert!(engine.remove_model("one"));
    // Another model gets the index of the removed one, and nothing of its cache.
    engine.add_model("new", models[3].clone()).unwrap();
    let again = engine.add(request("new")).unwrap();
    while !engine.is_idle() {
        step(&mut engine, &mut told);
    }
    for id in [running, waiting] {
        assert_eq!(told[&id].failed.as_deref(), Some("there is no model named one"));
    }
    assert_eq!(told[&kept].ids, expected.0);
    assert_eq!((told[&again].reused, &told[&again].ids), (0, &alone(&models, &tiny.tokenizer, &request("three")).0));
    assert_eq!(engine.models().collect::<Vec<_>>(), ["base", "new", "two", "three"]);
}

/// Lets only one token come next, the next one of a list, and fails at its end.
#[derive(Debug)]
struct Script(Vec<u32>);

impl Constraint for Script {
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), String> {
        let next = *self.0.last().ok_or("the script is at its end")?;
        logits
            .iter_mut()
            .enumerate()
            .filter(|(id, _)| *id != next as usize)
            .for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        Ok(())
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        if self.0.pop() == Some(id) { Ok(()) } else { Err(format!("token {id}")) }
    }
}

#[test]
fn a_constraint_decides() {
    let (models, tiny) = (models(Base::Q8_0), Tiny::new(1, 0.2));
    let mut engine = engine(&models, &tiny, EngineConfig { context: 256, ..EngineConfig::default() });
    let mut add = |script: Vec<u32>, temperature: f32| {
        let sampling = SamplingConfig { temperature, ..SamplingConfig::default() };
        let mut request = Request::new("one", prompt(0, 4), GenerateConfig { sampling, ..greedy(9) });
        request.constraint = Some(Box::new(Script(script)));
        request.logprobs = Some(1);
        engine.add(request).unwrap()
    };
    let ids = [add(vec![105, 104], 0.0), add(vec![common::IM_END, 105, 104], 0.8)];
    let told = finish(&mut engine);
    assert_eq!((told[&ids[0]].ids.as_slice(), told[&ids[0]].text.as_str()), (&[104, 105][..], "hi"));
    assert!(told[&ids[0]].failed.as_ref().unwrap().contains("the script is at its end"));
    assert_eq!((told[&ids[1]].text.as_str(), told[&ids[1]].stop), ("hi", Some(StopReason::Eos)));
    // The log-probability is the model's own: not that of the only possible token.
    assert!(told[&ids[1]].logprobs[0].logprob < -1e-3);
}

#[test]
fn broken_weights_fail_their_request_alone() {
    let (mut models, tiny) = (models(Base::Q8_0), Tiny::new(1, 0.2));
    let device = Device::flex();
    for (_, projection) in models[1].projections_mut() {
        let [out, input] = projection.weight().dims();
        let matrix = |value: f32, shape: [usize; 2]| Param::from_tensor(Tensor::<2>::full(shape, value, &device));
        projection.attach(Some(LowRank {
            a: matrix(1e30, [1, input]),
            b: matrix(1e30, [out, 1]),
            scale: 1.0,
            dropout: None,
        }));
    }
    let mut engine = engine(&models, &tiny, EngineConfig { context: 256, ..EngineConfig::default() });
    let [broken, whole] = ["one", "two"].map(|name| engine.add(Request::new(name, prompt(1, 4), greedy(5))).unwrap());
    let told = finish(&mut engine);
    assert!(told[&broken].failed.as_ref().unwrap().contains("the weights or the adapter are broken"));
    assert_eq!(told[&whole].ids.len(), 5);
    let again = engine.add(Request::new("one", prompt(1, 4), greedy(5))).unwrap();
    assert_eq!(finish(&mut engine)[&again].reused, 0, "what was computed with broken weights is not kept");
}
