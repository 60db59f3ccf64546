//! Which well-known models are there, and what should one know of them?
//!
//! A table for people who choose and for short names (`all-MiniLM-L6-v2`). The facts are those of the models' cards;
//! nothing here changes what a model does: its own files say that, and a test compares none of this with them, because
//! none of them is at hand without a network.

use serde::Serialize;

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Text to vectors.
    Embed,
    /// A query and passages to scores.
    Rerank,
    /// Text and images to vectors of one space.
    Image,
}

/// A well-known model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its id on the hub; the part after the slash is its short name.
    pub id: &'static str,
    /// What it is for.
    pub purpose: Purpose,
    /// `model_type` of its configuration, or `static`.
    pub architecture: &'static str,
    /// Modules of its own after pooling.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub modules: &'static [&'static str],
    /// Numbers of a vector; 0 for rerankers.
    pub dims: usize,
    /// The longest text in tokens.
    pub max_tokens: usize,
    /// How token states become a vector; empty for rerankers.
    pub pooling: &'static str,
    /// Put before a query.
    pub query_prompt: &'static str,
    /// Put before a passage.
    pub document_prompt: &'static str,
    /// Millions of parameters.
    pub parameters_millions: f32,
    /// The licence that its card states.
    pub licence: &'static str,
    /// What else to know.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
}

impl Entry {
    /// The name without its owner.
    pub fn name(&self) -> &'static str {
        self.id.rsplit('/').next().unwrap_or(self.id)
    }
}

/// The entry of this short name or id; letter case does not count.
pub fn find(name: &str) -> Option<&'static Entry> {
    let is_meant = |entry: &&Entry| entry.name().eq_ignore_ascii_case(name) || entry.id.eq_ignore_ascii_case(name);
    ENTRIES.iter().find(is_meant)
}

const APACHE: &str = "Apache-2.0";
const MIT: &str = "MIT";
const BGE_QUERY: &str = "Represent this sentence for searching relevant passages: ";
const QWEN_QUERY: &str = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:";

const fn embedder(id: &'static str, architecture: &'static str, dims: usize, max_tokens: usize) -> Entry {
    Entry {
        id,
        purpose: Purpose::Embed,
        architecture,
        modules: &[],
        dims,
        max_tokens,
        pooling: "mean",
        query_prompt: "",
        document_prompt: "",
        parameters_millions: 0.0,
        licence: APACHE,
        note: "",
    }
}

const fn reranker(id: &'static str, architecture: &'static str, max_tokens: usize) -> Entry {
    Entry { purpose: Purpose::Rerank, pooling: "", ..embedder(id, architecture, 0, max_tokens) }
}

const fn image(id: &'static str, dims: usize) -> Entry {
    Entry {
        purpose: Purpose::Image,
        pooling: "",
        licence: MIT,
        note: "reads texts and images",
        ..embedder(id, "clip", dims, 77)
    }
}

impl Entry {
    const fn size(self, parameters_millions: f32) -> Self {
        Self { parameters_millions, ..self }
    }

    const fn pooled(self, pooling: &'static str) -> Self {
        Self { pooling, ..self }
    }

    const fn prompts(self, query_prompt: &'static str, document_prompt: &'static str) -> Self {
        Self { query_prompt, document_prompt, ..self }
    }

    const fn licensed(self, licence: &'static str) -> Self {
        Self { licence, ..self }
    }

    const fn with(self, modules: &'static [&'static str]) -> Self {
        Self { modules, ..self }
    }

    const fn noted(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

/// All of them: embedders by family, then rerankers, then models for images.
pub const ENTRIES: &[Entry] = &[
    embedder("sentence-transformers/all-MiniLM-L6-v2", "bert", 384, 256).size(22.7),
    embedder("sentence-transformers/all-MiniLM-L12-v2", "bert", 384, 128).size(33.4),
    embedder("sentence-transformers/all-mpnet-base-v2", "mpnet", 768, 384).size(109.0),
    embedder("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", "bert", 384, 128)
        .size(118.0)
        .noted("50 languages"),
    embedder("sentence-transformers/distiluse-base-multilingual-cased-v2", "distilbert", 512, 128)
        .with(&["Dense"])
        .size(135.0)
        .noted("50 languages"),
    embedder("NeuML/pubmedbert-base-embeddings", "bert", 768, 512).size(109.0).noted("medical literature"),
    embedder("sentence-transformers/allenai-specter", "bert", 768, 512)
        .pooled("cls")
        .size(110.0)
        .noted("titles and abstracts of papers"),
    embedder("BAAI/bge-small-en-v1.5", "bert", 384, 512).pooled("cls").prompts(BGE_QUERY, "").size(33.4).licensed(MIT),
    embedder("BAAI/bge-base-en-v1.5", "bert", 768, 512).pooled("cls").prompts(BGE_QUERY, "").size(109.0).licensed(MIT),
    embedder("BAAI/bge-large-en-v1.5", "bert", 1024, 512)
        .pooled("cls")
        .prompts(BGE_QUERY, "")
        .size(335.0)
        .licensed(MIT),
    embedder("BAAI/bge-m3", "xlm-roberta", 1024, 8192)
        .pooled("cls")
        .size(568.0)
        .licensed(MIT)
        .noted("100 languages; of its three outputs, the dense one"),
    embedder("intfloat/e5-small-v2", "bert", 384, 512).prompts("query: ", "passage: ").size(33.4).licensed(MIT),
    embedder("intfloat/e5-base-v2", "bert", 768, 512).prompts("query: ", "passage: ").size(109.0).licensed(MIT),
    embedder("intfloat/e5-large-v2", "bert", 1024, 512).prompts("query: ", "passage: ").size(335.0).licensed(MIT),
    embedder("intfloat/multilingual-e5-small", "bert", 384, 512)
        .prompts("query: ", "passage: ")
        .size(118.0)
        .licensed(MIT)
        .noted("100 languages"),
    embedder("intfloat/multilingual-e5-base", "xlm-roberta", 768, 512)
        .prompts("query: ", "passage: ")
        .size(278.0)
        .licensed(MIT)
        .noted("100 languages"),
    embedder("intfloat/multilingual-e5-large", "xlm-roberta", 1024, 512)
        .prompts("query: ", "passage: ")
        .size(560.0)
        .licensed(MIT)
        .noted("100 languages"),
    embedder("thenlper/gte-small", "bert", 384, 512).size(33.4).licensed(MIT),
    embedder("thenlper/gte-base", "bert", 768, 512).size(109.0).licensed(MIT),
    embedder("Alibaba-NLP/gte-modernbert-base", "modernbert", 768, 8192).pooled("cls").size(149.0),
    embedder("nomic-ai/nomic-embed-text-v1.5", "nomic_bert", 768, 8192)
        .prompts("search_query: ", "search_document: ")
        .size(137.0)
        .noted("vectors may be cut to 512, 256, 128 or 64"),
    embedder("mixedbread-ai/mxbai-embed-large-v1", "bert", 1024, 512).pooled("cls").prompts(BGE_QUERY, "").size(335.0),
    embedder("Snowflake/snowflake-arctic-embed-xs", "bert", 384, 512).pooled("cls").prompts(BGE_QUERY, "").size(22.6),
    embedder("Snowflake/snowflake-arctic-embed-s", "bert", 384, 512).pooled("cls").prompts(BGE_QUERY, "").size(33.2),
    embedder("Snowflake/snowflake-arctic-embed-m", "bert", 768, 512).pooled("cls").prompts(BGE_QUERY, "").size(109.0),
    embedder("Snowflake/snowflake-arctic-embed-l", "bert", 1024, 512).pooled("cls").prompts(BGE_QUERY, "").size(335.0),
    embedder("Snowflake/snowflake-arctic-embed-l-v2.0", "xlm-roberta", 1024, 8192)
        .pooled("cls")
        .prompts("query: ", "")
        .size(568.0)
        .noted("74 languages; vectors may be cut to 256"),
    embedder("sentence-transformers/clip-ViT-B-32-multilingual-v1", "distilbert", 512, 128)
        .with(&["Dense"])
        .size(135.0)
        .noted("50 languages; puts texts into the space of clip-ViT-B-32's pictures"),
    embedder("jinaai/jina-embeddings-v2-base-en", "jina_bert", 768, 8192).size(137.0),
    embedder("Qwen/Qwen3-Embedding-0.6B", "qwen3", 1024, 32_768)
        .pooled("lasttoken")
        .prompts(QWEN_QUERY, "")
        .size(596.0)
        .noted("100 languages; vectors may be cut"),
    embedder("google/embeddinggemma-300m", "gemma3_text", 768, 2048)
        .with(&["Dense", "Dense"])
        .prompts("task: search result | query: ", "title: none | text: ")
        .size(303.0)
        .licensed("Gemma terms")
        .noted("100 languages; gated: accept its terms, then set HF_TOKEN"),
    embedder("minishlab/potion-base-8M", "static", 256, 512).size(7.6).licensed(MIT).noted("model2vec"),
    embedder("minishlab/potion-retrieval-32M", "static", 512, 512).size(32.3).licensed(MIT).noted("model2vec"),
    reranker("cross-encoder/ms-marco-MiniLM-L6-v2", "bert", 512).size(22.7),
    reranker("cross-encoder/ms-marco-MiniLM-L12-v2", "bert", 512).size(33.4),
    reranker("BAAI/bge-reranker-base", "xlm-roberta", 512).size(278.0).licensed(MIT),
    reranker("BAAI/bge-reranker-large", "xlm-roberta", 512).size(560.0).licensed(MIT),
    reranker("BAAI/bge-reranker-v2-m3", "xlm-roberta", 8192).size(568.0).noted("100 languages"),
    reranker("mixedbread-ai/mxbai-rerank-base-v1", "deberta-v2", 512).size(184.0),
    reranker("Alibaba-NLP/gte-reranker-modernbert-base", "modernbert", 8192).size(149.0),
    reranker("Qwen/Qwen3-Reranker-0.6B", "qwen3", 32_768).size(596.0).noted("asked for yes or no"),
    image("sentence-transformers/clip-ViT-B-32", 512).size(151.0),
    image("sentence-transformers/clip-ViT-L-14", 768).size(428.0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::HubId;

    #[test]
    fn every_entry_can_be_asked_for_by_its_short_name_and_its_id() {
        for entry in ENTRIES {
            assert!(entry.id.parse::<HubId>().is_ok(), "{}", entry.id);
            for name in [entry.id.to_owned(), entry.name().to_uppercase(), entry.name().to_owned()] {
                assert_eq!(find(&name).map(|found| found.id), Some(entry.id), "{name} is ambiguous");
            }
        }
        assert_eq!(find("all-MiniLM"), None);
    }

    #[test]
    fn every_entry_says_what_there_is_to_say() {
        for entry in ENTRIES {
            assert!(entry.parameters_millions > 1.0 && entry.max_tokens > 0, "{}", entry.id);
            assert_eq!(entry.dims > 0, entry.purpose != Purpose::Rerank, "{}", entry.id);
            assert_eq!(entry.pooling.is_empty(), entry.purpose != Purpose::Embed, "{}", entry.id);
        }
    }
}
