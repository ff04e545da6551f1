//! The engine of `foehn-generate` as a server's.

use foehn_generate::{Engine, EngineStats, Error, Event, Request, RequestId};
use foehn_mistral::Mistral;

use crate::Batch;

impl Batch for Engine {
    type Model = Mistral;
    type Id = RequestId;

    fn add(&mut self, request: Request) -> Result<RequestId, Error> {
        self.add(request)
    }

    fn step(&mut self, on_event: &mut dyn FnMut(RequestId, Event)) {
        self.step(on_event);
    }

    fn cancel(&mut self, id: RequestId) {
        self.cancel(id);
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }

    fn context(&self) -> usize {
        self.context()
    }

    fn stats(&self) -> EngineStats {
        self.stats()
    }

    fn add_model(&mut self, name: String, model: Mistral) -> Result<(), Error> {
        self.add_model(name, model)
    }

    fn remove_model(&mut self, name: &str) -> bool {
        self.remove_model(name)
    }
}
