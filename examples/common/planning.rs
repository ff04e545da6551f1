//! What a run will take, before it begins.

use super::terminal::{say, tell};
use anyhow::Result;
use clap::Args;
use foehn::Job;
use foehn::burn::tensor::Device;
use foehn::plan::{PlanError, Prospect, parse_bytes, size};

#[derive(Args, Debug)]
pub struct PlanArgs {
    /// Print what the run will take (tokens, steps, memory, time) and stop, before a weight is read
    #[arg(long)]
    pub plan: bool,
    /// Choose micro_batch_rows, recompute and base, in this order, such that the run fits in this memory, such as 8G
    #[arg(long, value_parser = parse_bytes)]
    pub memory: Option<usize>,
}

impl PlanArgs {
    /// Fits the job's settings into the memory that was asked for, and refuses a run that does not fit in what is free.
    /// Returns whether the run begins: with `--plan` it does not.
    pub fn begin(&self, job: &mut Job, name: &str, device: &Device) -> Result<bool> {
        if name != "flex" {
            let is_asked = self.plan || self.memory.is_some();
            return if is_asked { Err(PlanError::Device { device: name.into() }.into()) } else { Ok(true) };
        }
        let mut prospect = Prospect::of(job, &mut super::show_loading())?;
        if let Some(room) = self.memory {
            let choice = prospect.within(room)?;
            tell!("within {}: {} ({} at the peak)", size(room), choice.said(), size(choice.peak));
            job.adopt(&choice);
            prospect = Prospect::of(job, &mut super::show_loading())?;
        }
        if self.plan {
            say!("{}", prospect.plan(Some(device))?);
        }
        prospect.check()?;
        Ok(!self.plan)
    }
}
