//! `vocab.txt`: a WordPiece vocabulary, one token per line, run as Transformers' `BertTokenizer` does.

use ahash::AHashMap;
use serde_json::Value;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Tokenizer as Inner, decoders};

use super::{SPECIAL_KEYS, SPECIAL_TOKENS, token_named};

/// Reads a vocabulary, with the settings in `tokenizer_config.json`.
pub(super) fn read(bytes: &[u8], config: &Value) -> Result<Inner, String> {
    let text =
        std::str::from_utf8(bytes).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to() + 1))?;
    let vocab: AHashMap<String, u32> =
        text.lines().enumerate().map(|(id, token)| (token.to_string(), id as u32)).collect();
    let names: [&str; 5] =
        std::array::from_fn(|i| token_named(config, SPECIAL_KEYS[i]).unwrap_or(SPECIAL_TOKENS[i]));
    let model = WordPiece::builder().vocab(vocab).unk_token(names[1].into()).build();
    let mut inner = Inner::new(model.map_err(|e| e.to_string())?);
    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    let lower = flag("do_lower_case").unwrap_or(true);
    let chinese = flag("tokenize_chinese_chars").unwrap_or(true);
    inner.with_normalizer(Some(BertNormalizer::new(true, chinese, flag("strip_accents"), lower)));
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    inner.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
    if let Some(token) = names.iter().find(|token| inner.token_to_id(token).is_none()) {
        return Err(format!("has no {token} token"));
    }
    inner.add_special_tokens(&names.map(|token| AddedToken::from(token, true)));
    let template = super::template(names[2], names[3], &inner)?;
    inner.with_post_processor(Some(template));
    Ok(inner)
}
