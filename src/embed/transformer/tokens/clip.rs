//! How do the `vocab.json` and `merges.txt` of a CLIP model become a `tokenizer.json`?
//!
//! The CLIP models of sentence-transformers were saved before that file was. Byte-level BPE (Sennrich et al., 2016; Radford et
//! al., 2021) on lowercased words with a mark at their ends, as transformers' `CLIPTokenizer` puts it together.

use serde_json::{Map, Value, json};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// What is kept of a text, piece by piece: CLIP's own expression.
const PIECES: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The same tokenizer in one file.
pub(super) fn assembled(vocabulary: &[u8], merges: &[u8]) -> Result<Vec<u8>, String> {
    let vocabulary: Map<String, Value> =
        serde_json::from_slice(vocabulary).map_err(|error| format!("is no JSON object of tokens: {error}"))?;
    let merges = std::str::from_utf8(merges).map_err(|error| format!("merges.txt is not valid UTF-8: {error}"))?;
    let merges: Vec<&str> = merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
    let id = |token: &str| vocabulary.get(token).cloned().ok_or_else(|| format!("holds no token `{token}`"));
    let (start, end) = (id(START)?, id(END)?);
    let special = |id: &Value, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let split = json!({"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Removed", "invert": true});
    let blanks = json!({"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "});
    let whole = json!({
        "version": "1.0",
        "added_tokens": [special(&start, START), special(&end, END)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, blanks, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, end], "cls": [START, start],
                           "trim_offsets": false, "add_prefix_space": false},
        "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "vocab": vocabulary, "merges": merges},
    });
    serde_json::to_vec(&whole).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_refused_by_name() {
        let refusal =
            |vocabulary: &str, merges: &[u8]| assembled(vocabulary.as_bytes(), merges).err().unwrap_or_default();
        let whole = r#"{"a": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}"#;
        assert!(refusal("[1]", b"").contains("is no JSON object of tokens"));
        assert!(refusal(r#"{"<|startoftext|>": 0}"#, b"").contains("holds no token `<|endoftext|>`"));
        assert!(refusal(whole, b"\xff").contains("merges.txt is not valid UTF-8"));
        assert_eq!(refusal(whole, b"#version: 0.2\n"), "");
    }
}
