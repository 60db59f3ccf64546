//! Is a directory that was made to do harm refused, in under a second, by name?

use super::*;

/// The message with which a model with a spoilt tokenizer is refused.
fn tokenizer_refusal(change: impl FnOnce(&mut Value)) -> String {
    refusal(|directory| edit(directory, "tokenizer.json", change))
}

#[test]
fn template_with_an_undefined_token_is_refused() {
    let message = tokenizer_refusal(|tokenizer| tokenizer["post_processor"]["special_tokens"] = json!({}));
    assert!(message.contains("the special token `[CLS]`, which it does not define"), "{message}");
}

#[test]
fn tokenizer_that_panics_is_an_error() {
    // A map of characters with a single node, from which every character leads beyond its end.
    let map = json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="});
    let copy = copy();
    edit(copy.path(), "tokenizer.json", |tokenizer| tokenizer["normalizer"] = map);
    // Without a limit of time: printing a backtrace may take seconds.
    let message = Transformer::open(copy.path()).err().expect("the spoilt model is refused").to_string();
    assert!(message.contains("tokenizer.json cannot be used: the tokenizers crate panicked: index out"), "{message}");
}

#[test]
fn tokenizer_that_multiplies_its_text_is_refused() {
    let replace =
        |content: usize| json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(content)});
    let chain = |steps: usize| json!({"type": "Sequence", "normalizers": vec![replace(1000); steps]});
    for normalizer in [replace(100_000), chain(12)] {
        let message = tokenizer_refusal(|tokenizer| tokenizer["normalizer"] = normalizer);
        assert!(message.contains("makes a text longer by replacements, times: "), "{message}");
    }
    let between = json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "a".repeat(100)});
    let message = tokenizer_refusal(|tokenizer| tokenizer["normalizer"] = between);
    assert!(message.contains("times: 101, where at most 64 are allowed"), "{message}");
    let message = tokenizer_refusal(|tokenizer| {
        let text = tokenizer["post_processor"]["single"][1].clone();
        tokenizer["post_processor"]["single"] = json!(vec![text; 1000]);
    });
    assert!(message.contains("has a template with parts: 1000, where at most 64"), "{message}");
}

#[test]
fn tokenizer_with_endless_work_is_refused() {
    let message = tokenizer_refusal(|tokenizer| tokenizer["model"]["max_input_chars_per_word"] = json!(1_000_000_000));
    assert!(message.contains("has max_input_chars_per_word 1000000000"), "{message}");
    let message = tokenizer_refusal(|tokenizer| {
        let pattern = json!({"Regex": "(a{1000}){1000}".repeat(10_000)});
        tokenizer["pre_tokenizer"] =
            json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false});
    });
    assert!(message.contains("has a pre_tokenizer of the size"), "{message}");
    let message = tokenizer_refusal(|tokenizer| {
        let pattern = json!({"Regex": "(a{1000}){1000}"});
        tokenizer["pre_tokenizer"] =
            json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false});
    });
    assert!(message.contains("tokenizer.json cannot be used"), "{message}");
    let message = tokenizer_refusal(|tokenizer| {
        let added = |id| {
            json!({"id": id, "content": format!("t{id}"), "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": false})
        };
        tokenizer["added_tokens"] = (0..70_000).map(added).collect();
    });
    assert!(message.contains("adds tokens to its model's: 70000"), "{message}");
}

#[test]
fn tokenizer_that_cuts_at_random_is_refused() {
    let message = tokenizer_refusal(|tokenizer| tokenizer["model"]["dropout"] = json!(0.1));
    assert!(message.contains("has a dropout of 0.1, which cuts texts at random"), "{message}");
}

#[test]
fn tokenizer_too_large_to_be_one_is_not_read() {
    let message = refusal(|directory| {
        let file = fs::OpenOptions::new().write(true).open(directory.join("tokenizer.json")).unwrap();
        file.set_len(1 << 40).unwrap();
    });
    assert!(message.contains("tokenizer.json has 1099511627776 bytes"), "{message}");
}

#[test]
fn weights_with_a_header_that_lies_are_refused() {
    for claimed in [u64::MAX, 1 << 62, 90_000_000] {
        let message = refusal(|directory| {
            let path = directory.join("model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            bytes[..8].copy_from_slice(&claimed.to_le_bytes());
            fs::write(path, bytes).unwrap();
        });
        assert!(message.contains(&format!("its header claims {claimed} bytes")), "{message}");
    }
    // A header of a million tensors, in a file that is as long as it says.
    let message = refusal(|directory| {
        let entry = |id| format!("\"t{id}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        let header = format!("{{{}}}", (0..400_000).map(entry).collect::<Vec<_>>().join(","));
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        fs::write(directory.join("model.safetensors"), bytes).unwrap();
    });
    assert!(message.contains("of 16777216 at most"), "{message}");
}

#[test]
fn settings_too_large_to_be_some_are_not_read() {
    for name in ["config.json", "modules.json", "1_Pooling/config.json"] {
        let message = refusal(|directory| {
            let file = fs::OpenOptions::new().write(true).open(directory.join(name)).unwrap();
            file.set_len(1 << 40).unwrap();
        });
        assert!(message.contains(&format!("{name} has 1099511627776 bytes")), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_directory_are_refused_for_every_file() {
    let outside = copy();
    for name in ["config.json", "modules.json", "1_Pooling/config.json", "tokenizer.json", "model.safetensors"] {
        let message = refusal(|directory| {
            fs::remove_file(directory.join(name)).unwrap();
            std::os::unix::fs::symlink(outside.path().join(name), directory.join(name)).unwrap();
        });
        assert!(message.contains(&format!("{name} is a link out of the directory")), "{message}");
    }
}
