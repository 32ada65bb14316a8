//! `reranker models`

use super::Failure;
use super::table::{self, short};
use reranker_engine::ModelSpec;
use std::io::Write;

pub(super) fn run() -> Result<(), Failure> {
    std::io::stdout().lock().write_all(table(ModelSpec::known()).as_bytes())?;
    Ok(())
}

fn table(models: &[ModelSpec]) -> String {
    let header = ["NAME", "REPOSITORY", "PARAMETERS", "WEIGHTS", "LICENCE", "NEEDS"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(models.iter().map(|spec| {
        let repository = match (spec.repository, spec.revision) {
            (None, _) => "inside the binary".to_owned(),
            (Some(repository), None) => repository.to_owned(),
            (Some(repository), Some(revision)) => format!("{repository}@{}", &revision[..12]),
        };
        [
            spec.name.clone().into_owned(),
            repository,
            short(spec.parameters, ""),
            short(spec.weight_bytes, "B"),
            spec.licence.to_owned(),
            spec.hardware.to_owned(),
        ]
    }));
    table::aligned(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People choose their hardware from this table.
    #[test]
    fn every_known_model_has_a_row() {
        let table = table(ModelSpec::known());
        let small = table.lines().find(|line| line.starts_with("zerank-1-small ")).expect("a row");
        assert!(small.contains("zeroentropy/zerank-1-small-reranker@a65fd51c450e"), "{small}");
        assert!(small.contains("1.7 G  ") && small.contains("3.4 GB"), "{small}");
        assert_eq!(table.lines().count(), ModelSpec::known().len() + 1);
    }
}
