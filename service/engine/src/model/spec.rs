//! The models this engine knows, as data.

use super::source::Source;
use std::borrow::Cow;

/// What turns a checkpoint into a reranker: prompt, text cuts, answer token and scale.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The name in requests.
    pub name: Cow<'static, str>,
    /// The hub repository, `organisation/name`; none for the embedded model.
    pub repository: Option<&'static str>,
    /// The commit that the prompt, scale and published scores belong to; where none is known the
    /// repository's `main` is taken.
    pub revision: Option<&'static str>,
    /// The text around query and document.
    pub prompt: Prompt,
    /// Code points of the query that are read; cut before white space is stripped.
    pub query_chars: usize,
    /// Code points of the document that are read; cut before white space is stripped.
    pub document_chars: usize,
    /// The token whose logit after the prompt is the answer.
    pub answer_token: &'static str,
    /// Relevance is `sigmoid(logit / scale)`.
    pub scale: f64,
    /// Tokens of one pair in its prompt; the checkpoint's positions may lower it.
    pub max_input_tokens: usize,
    /// Parameters, the embedding counted once.
    pub parameters: u64,
    /// Size of the weights file in bytes.
    pub weight_bytes: u64,
    /// SPDX identifier of the weights' licence.
    pub licence: &'static str,
    /// What it takes to run, in one line for people.
    pub hardware: &'static str,
    /// Scores that somebody else published for this model.
    pub published: Option<&'static Published>,
}

/// The fixed text of a pair: `before_query` query `between` document `after_document`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Before the query.
    pub before_query: &'static str,
    /// Between query and document.
    pub between: &'static str,
    /// After the document; the answer is read after its last token.
    pub after_document: &'static str,
}

/// Scores to hold a loaded model against.
#[derive(Debug)]
pub struct Published {
    /// The query.
    pub query: &'static str,
    /// Documents with their relevance scores.
    pub scores: &'static [(&'static str, f64)],
    /// Largest difference that rounding explains.
    pub tolerance: f64,
    /// Who published them.
    pub origin: &'static str,
}

/// ChatML, the query as system text and the document as user text; no default system text, no
/// instruction, no think block.
const CHATML: Prompt = Prompt {
    before_query: "<|im_start|>system\n",
    between: "<|im_end|>\n<|im_start|>user\n",
    after_document: "<|im_end|>\n<|im_start|>assistant\n",
};

static KNOWN: [ModelSpec; 4] = [
    ModelSpec {
        name: Cow::Borrowed("demo"),
        repository: None,
        revision: None,
        prompt: CHATML,
        query_chars: 2_000,
        document_chars: 10_000,
        answer_token: "Yes",
        scale: 5.0,
        max_input_tokens: 32_768,
        parameters: super::source::DEMO_PARAMETERS,
        weight_bytes: super::source::DEMO_WEIGHTS.len() as u64,
        licence: "Apache-2.0",
        hardware: "any CPU; inside the binary; for trying out, not for production",
        published: None,
    },
    ModelSpec {
        name: Cow::Borrowed("zerank-1-small"),
        repository: Some("zeroentropy/zerank-1-small-reranker"),
        revision: Some("a65fd51c450e9b47fdddab98e31166ecad21af8d"),
        prompt: CHATML,
        query_chars: 2_000,
        document_chars: 10_000,
        answer_token: "Yes",
        scale: 5.0,
        max_input_tokens: 32_768,
        parameters: 1_720_574_976,
        weight_bytes: 3_441_149_952,
        licence: "Apache-2.0",
        hardware: "5 GB of memory; a GPU for production, a CPU for tests and small loads",
        published: Some(&Published {
            query: "Which planet is known as the Red Planet?",
            scores: &[
                (
                    "Venus is often called Earth's twin because of its similar size and proximity.",
                    0.09428,
                ),
                (
                    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
                    0.83889,
                ),
                (
                    "Jupiter, the largest planet in our solar system, has a prominent red spot.",
                    0.12052,
                ),
                ("Saturn, famous for its rings, is sometimes mistaken for the Red Planet.", 0.2184),
            ],
            tolerance: 0.01,
            origin: "Sentence-Transformers' tests, float32",
        }),
    },
    ModelSpec {
        name: Cow::Borrowed("zerank-1"),
        repository: Some("zeroentropy/zerank-1-reranker"),
        revision: None,
        prompt: CHATML,
        query_chars: 2_000,
        document_chars: 10_000,
        answer_token: "Yes",
        scale: 5.0,
        max_input_tokens: 32_768,
        parameters: 4_022_468_096,
        weight_bytes: 8_044_936_192,
        licence: "Apache-2.0",
        hardware: "11 GB of memory; a GPU",
        published: Some(&Published {
            query: "what is the first step in making apple jam",
            scores: &[
                ("boil apples", 0.771_648_6),
                ("freeze apples", 0.767_574_4),
                ("jam to some tunes", 0.724_159_6),
            ],
            tolerance: 0.01,
            origin: "the hosted API's documentation",
        }),
    },
    ModelSpec {
        name: Cow::Borrowed("zerank-2"),
        repository: Some("zeroentropy/zerank-2-reranker"),
        revision: None,
        prompt: CHATML,
        query_chars: 2_000,
        document_chars: 10_000,
        answer_token: "Yes",
        scale: 5.0,
        max_input_tokens: 32_768,
        parameters: 4_022_468_096,
        weight_bytes: 8_044_936_192,
        licence: "Apache-2.0",
        hardware: "11 GB of memory; a GPU",
        published: Some(&Published {
            query: "What is 2+2?",
            scores: &[("4", 0.746_72), ("The answer is definitely 1 million", 0.289_05)],
            tolerance: 0.01,
            origin: "the model card's logits 5.4062 and -4.5, divided by 5, through the sigmoid",
        }),
    },
];

impl ModelSpec {
    /// All known models.
    pub fn known() -> &'static [Self] {
        &KNOWN
    }

    /// The known model of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|spec| spec.name == name)
    }

    /// A model of one's own: the prompt and scale of `zerank-1-small`, nothing published.
    pub fn custom(name: &str) -> Self {
        let base = &KNOWN[1];
        Self {
            name: Cow::Owned(name.to_owned()),
            repository: None,
            revision: None,
            published: None,
            parameters: 0,
            weight_bytes: 0,
            licence: "unknown",
            hardware: "unknown",
            ..base.clone()
        }
    }

    /// Where the model comes from unless the user says otherwise; none for [`custom`](Self::custom).
    pub fn source(&self) -> Option<Source> {
        match self.repository {
            Some(repository) => Some(Source::Hub {
                repository: repository.to_owned(),
                revision: self.revision.unwrap_or("main").to_owned(),
            }),
            None if self.name == "demo" => Some(Source::Embedded),
            None => None,
        }
    }

    /// The public score of a logit, in [0, 1].
    pub fn relevance_score(&self, logit: f32) -> f64 {
        1.0 / (1.0 + (-f64::from(logit) / self.scale).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A published logit must come out as the published score.
    #[test]
    fn the_score_is_the_sigmoid_of_a_fifth_of_the_logit() {
        let spec = ModelSpec::find("zerank-2").expect("is known");
        let scores = spec.published.expect("is published").scores;
        assert!((spec.relevance_score(5.4062) - scores[0].1).abs() < 1e-5);
        assert!((spec.relevance_score(-4.5) - scores[1].1).abs() < 1e-5);
        assert!((spec.relevance_score(f32::MAX) - 1.0).abs() < f64::EPSILON);
        assert!(spec.relevance_score(f32::MIN) >= 0.0);
    }
}
