//! `--mock`

use super::ModelChoice;
use crate::app::Alias;
use clap::Args;
use std::path::Path;

/// A server without a model.
#[derive(Args, Clone, Copy, Debug)]
pub struct MockArgs {
    /// Answer every route of the hosted API with canned data, without a model: for tests of your own
    /// programs. Any key, model, collection and document is taken; of the limits, those of requests
    /// (but --max-body-bytes), queues and rates have no effect
    #[arg(long, env = "RERANKER_MOCK")]
    pub mock: bool,
}

impl MockArgs {
    /// Refuses what has no meaning for a server without models.
    pub(super) fn check(
        self,
        models: &[ModelChoice],
        aliases: &[Alias],
        keys: Option<&Path>,
    ) -> Result<(), String> {
        if !self.mock {
            return Ok(());
        }
        if let Some(model) = models.first() {
            let name = &model.spec.name;
            return Err(format!("--mock loads no model: leave out --model {name} or --mock"));
        }
        if let Some(Alias { name, model }) = aliases.first() {
            return Err(format!(
                "--mock takes any model's name: leave out --alias {name}={model} or --mock"
            ));
        }
        if let Some(file) = keys {
            let file = file.display();
            return Err(format!(
                "--mock takes any key: leave out --api-keys-file {file} or --mock"
            ));
        }
        Ok(())
    }
}
