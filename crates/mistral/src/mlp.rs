//! The feed-forward block.

use burn::module::Module;

use crate::Projection;

/// The projections of the feed-forward block, `down(silu(gate(x)) · up(x))`.
#[derive(Module, Debug)]
pub struct Mlp {
    pub(crate) gate_proj: Projection,
    pub(crate) up_proj: Projection,
    pub(crate) down_proj: Projection,
}
