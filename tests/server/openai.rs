//! Are clients of OpenAI, Cohere, Jina and text-embeddings-inference answered?
