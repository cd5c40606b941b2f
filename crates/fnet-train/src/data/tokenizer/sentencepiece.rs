//! `spiece.model`: a SentencePiece unigram vocabulary (Kudo 2018), run as Transformers' `FNetTokenizer` does.

use prost::Message;
use serde_json::Value;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::{
    Lowercase, NFKD, NormalizerWrapper, Precompiled, Replace, Sequence, StripAccents,
};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{AddedToken, Tokenizer as Inner};

/// The messages of SentencePiece's `sentencepiece_model.proto`, as far as they are read here.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Trainer {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(int32, optional, tag = "40")]
    unk_id: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
}

const UNIGRAM: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// Reads a model, with the settings in `tokenizer_config.json`.
pub(super) fn read(bytes: &[u8], config: &Value) -> Result<Inner, String> {
    let model = Model::decode(bytes).map_err(|e| format!("not a SentencePiece model: {e}"))?;
    let (trainer, map) = (model.trainer.unwrap_or_default(), model_map(model.normalizer)?);
    if trainer.model_type.unwrap_or(UNIGRAM) != UNIGRAM {
        return Err("is no unigram model; save it as tokenizer.json with Transformers".into());
    }
    let (mut vocab, mut added) = (Vec::with_capacity(model.pieces.len()), Vec::new());
    for (id, piece) in model.pieces.into_iter().enumerate() {
        let (text, score) = (piece.piece.unwrap_or_default(), f64::from(piece.score.unwrap_or(0.0)));
        if text.is_empty() || !score.is_finite() {
            return Err(format!("piece {id} is empty or has no finite score"));
        }
        if let Some(kind @ (CONTROL | USER_DEFINED)) = piece.kind {
            added.push(AddedToken::from(text.clone(), kind == CONTROL).normalized(false));
        }
        vocab.push((text, score));
    }
    let unknown = usize::try_from(trainer.unk_id.unwrap_or(0)).ok();
    let unknown = unknown.filter(|id| *id < vocab.len()).ok_or("has no piece for what is unknown")?;
    let model = Unigram::from(vocab, Some(unknown), false).map_err(|e| e.to_string())?;
    let mut inner = Inner::new(model);

    let flag = |key: &str, usual: bool| config.get(key).and_then(Value::as_bool).unwrap_or(usual);
    let replace = |from: &str, to: &str| Replace::new(from, to).map_err(|e| e.to_string());
    let mut steps: Vec<NormalizerWrapper> = vec![replace("``", "\"")?.into(), replace("''", "\"")?.into()];
    if !flag("keep_accents", true) {
        steps.extend([NFKD.into(), StripAccents.into()]);
    }
    if flag("do_lower_case", false) {
        steps.push(Lowercase.into());
    }
    steps.extend(map.map(NormalizerWrapper::from));
    inner.with_normalizer(Some(Sequence::new(steps)));
    let metaspace = Metaspace::new('▁', PrependScheme::Always, true);
    let splits: [PreTokenizerWrapper; 2] = [WhitespaceSplit.into(), metaspace.clone().into()];
    inner.with_pre_tokenizer(Some(PreTokenizers::new(splits.into())));
    inner.with_decoder(Some(metaspace));

    inner.add_tokens(&added);
    let name = |key: &str, usual: &str| {
        // A token is a string, or an object with its content.
        let given = config.get(key).and_then(|token| token.get("content").unwrap_or(token).as_str());
        given.unwrap_or(usual).to_string()
    };
    let (cls, sep) = (name("cls_token", "[CLS]"), name("sep_token", "[SEP]"));
    let special = [
        cls.clone(),
        sep.clone(),
        name("unk_token", "<unk>"),
        name("pad_token", "<pad>"),
        name("mask_token", "[MASK]"),
    ];
    inner.add_special_tokens(&special.map(|token| AddedToken::from(token, true).normalized(false)));
    let template = super::template(&cls, &sep, &inner)?;
    inner.with_post_processor(Some(template));
    Ok(inner)
}

/// The character replacements that the model was trained with. The library that runs them trusts the bytes, so here
/// every step that it could take is checked first.
fn model_map(normalizer: Option<NormalizerSpec>) -> Result<Option<Precompiled>, String> {
    let Some(bytes) = normalizer.and_then(|n| n.precompiled_charsmap).filter(|bytes| !bytes.is_empty())
    else {
        return Ok(None);
    };
    check_map(&bytes).ok_or_else(broken)?;
    Precompiled::from(&bytes).map(Some).map_err(|_| broken())
}

fn broken() -> String {
    "holds a broken table of characters".into()
}

/// Checks the character tables in the normalizer of a `tokenizer.json`, at any depth.
pub(super) fn check_maps(normalizer: &Value) -> Result<(), String> {
    let parts: Vec<&Value> = match normalizer {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => vec![],
    };
    parts.into_iter().try_for_each(check_maps)?;
    let table = normalizer.get("precompiled_charsmap");
    if table.is_none() && normalizer.get("type").is_none_or(|kind| kind != "Precompiled") {
        return Ok(());
    }
    let bytes = table.and_then(Value::as_str).and_then(|text| base64::decode(text).ok());
    bytes.and_then(|bytes| check_map(&bytes)).ok_or_else(broken)
}

/// A double array (Aoe 1989) of 32-bit units, then the replacements, each ended by a zero byte. From a unit's
/// place, its offset and the next byte lead to another unit by exclusive or; a leaf names a replacement.
fn check_map(bytes: &[u8]) -> Option<()> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let (units, replacements) = rest.split_at_checked(u32::from_le_bytes(*head) as usize)?;
    let units: Vec<usize> = units.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b) as usize).collect();
    let replacements = std::str::from_utf8(replacements).ok()?;
    let is_value = |unit: usize| unit >> 31 == 1;
    units.first().filter(|root| !is_value(**root))?;
    for (place, unit) in units.iter().copied().enumerate().filter(|(_, unit)| !is_value(*unit)) {
        let (offset, has_leaf) = ((unit >> 10) << ((unit & 1 << 9) >> 6), unit >> 8 & 1 == 1);
        let next = place ^ offset;
        if (next | 0xFF) >= units.len() {
            return None;
        }
        let leaf = units[next] & 0x7FFF_FFFF;
        if has_leaf && !(leaf < replacements.len() && replacements.is_char_boundary(leaf)) {
            return None;
        }
    }
    Some(())
}
