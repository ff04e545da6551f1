//! The training loop: recipe, step, schedule, checkpoint, resume, metrics.
