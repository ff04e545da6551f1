//! The pipeline file of the examples equals the default pipeline.

use std::path::Path;

use foehn_corpus::{Error, Pipeline};

#[test]
fn the_recipe_is_the_default() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/recipes/clean.toml");
    let pipeline = Pipeline::load(&recipe).expect("a sound recipe");
    assert_eq!(format!("{pipeline:#?}"), format!("{:#?}", Pipeline::default()));
}

#[test]
fn a_pipeline_that_is_not_there_is_named() {
    match Pipeline::load(Path::new("no/such.toml")) {
        Err(Error::Open { path, .. }) => assert_eq!(path, Path::new("no/such.toml")),
        other => panic!("expected an error of opening, found {other:?}"),
    }
}
