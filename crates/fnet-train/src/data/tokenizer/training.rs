//! Training of vocabularies: the same lines give the same vocabulary.

use std::collections::{BTreeMap, BTreeSet};

use ahash::AHashMap;
use compact_str::CompactString;
use rayon::prelude::*;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, Lowercase, NFKC, NormalizerWrapper, Sequence};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, Tokenizer as Inner, decoders,
};

use super::{Kind, SPECIAL_TOKENS};

/// Length of the longest word to learn from, in characters. The library's trainers are quadratic in a word's
/// length, and their likelihoods underflow; their tokenizers map words of over 100 characters to the unknown token.
const LONGEST_WORD: usize = 100;

/// A tokenizer that splits and normalises, with no vocabulary yet.
pub(super) fn untrained(kind: Kind, cased: bool) -> Inner {
    match kind {
        Kind::Wordpiece => {
            let mut inner = Inner::new(WordPiece::default());
            inner.with_normalizer(Some(BertNormalizer::new(true, true, Some(!cased), !cased)));
            inner.with_pre_tokenizer(Some(BertPreTokenizer));
            inner.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
            inner
        }
        Kind::Unigram => {
            let mut inner = Inner::new(Unigram::default());
            let mut steps = vec![NormalizerWrapper::from(NFKC)];
            if !cased {
                steps.push(Lowercase.into());
            }
            inner.with_normalizer(Some(Sequence::new(steps)));
            inner.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::Always, true)));
            inner.with_decoder(Some(Metaspace::new('▁', PrependScheme::Always, true)));
            inner
        }
    }
}

/// Words as the tokenizer splits them, with their counts. Words with a character outside the
/// `alphabet` most frequent ones are left out: they will be unknown.
///
/// The library's trainers count for themselves, in hash maps whose order differs from run to run,
/// and with it the vocabulary; so the counting, and everything that depends on an order, is here.
pub(super) fn word_counts(
    tokenizer: &Inner,
    mut lines: impl Iterator<Item = String>,
    alphabet: usize,
) -> std::result::Result<AHashMap<CompactString, u64>, tokenizers::Error> {
    const BLOCK: usize = 1 << 14;
    const BLOCK_BYTES: usize = 1 << 22;
    let mut counts: AHashMap<CompactString, u64> = AHashMap::new();
    loop {
        let (mut block, mut bytes) = (Vec::new(), 0);
        while block.len() < BLOCK
            && bytes < BLOCK_BYTES
            && let Some(line) = lines.next()
        {
            bytes += line.len();
            block.push(line);
        }
        if block.is_empty() {
            break;
        }
        let words: Vec<Vec<CompactString>> =
            block.par_iter().map(|line| split(tokenizer, line)).collect::<std::result::Result<_, _>>()?;
        for word in words.into_iter().flatten().filter(|word| word.chars().count() <= LONGEST_WORD) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut letters: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in &counts {
        word.chars().for_each(|c| *letters.entry(c).or_default() += count);
    }
    let mut letters: Vec<(char, u64)> = letters.into_iter().collect();
    letters.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let kept: BTreeSet<char> = letters.into_iter().take(alphabet).map(|l| l.0).collect();
    counts.retain(|word, _| word.chars().all(|c| kept.contains(&c)));
    Ok(counts)
}

fn split(tokenizer: &Inner, line: &str) -> std::result::Result<Vec<CompactString>, tokenizers::Error> {
    let mut text = NormalizedString::from(line);
    if let Some(normalizer) = tokenizer.get_normalizer() {
        normalizer.normalize(&mut text)?;
    }
    let mut pieces = PreTokenizedString::from(text);
    if let Some(splitter) = tokenizer.get_pre_tokenizer() {
        splitter.pre_tokenize(&mut pieces)?;
    }
    let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
    Ok(splits.into_iter().map(|(word, ..)| word.into()).collect())
}

pub(super) fn train_wordpiece(
    vocab_size: usize,
    words: &AHashMap<CompactString, u64>,
) -> std::result::Result<WordPiece, tokenizers::Error> {
    let letters: BTreeSet<char> = words.keys().flat_map(|w| w.chars()).collect();
    // Named beforehand, the later letters of words get their ids in order; see `word_counts`.
    let continued = letters.iter().map(|c| format!("##{c}"));
    let named: Vec<AddedToken> = SPECIAL_TOKENS
        .iter()
        .map(ToString::to_string)
        .chain(continued)
        .map(|t| AddedToken::from(t, true))
        .collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .special_tokens(named)
        .continuing_subword_prefix("##".into())
        .show_progress(false)
        .build();
    let mut pairs = BPE::default();
    pairs.continuing_subword_prefix = Some("##".into());
    trainer.do_train(words, &mut pairs)?;
    let mut model = WordPiece::from_bpe(&pairs);
    model.unk_token = "[UNK]".into();
    model.continuing_subword_prefix = "##".into();
    Ok(model)
}

pub(super) fn train_unigram(
    vocab_size: usize,
    words: &AHashMap<CompactString, u64>,
) -> std::result::Result<Unigram, tokenizers::Error> {
    let special = SPECIAL_TOKENS.map(|t| AddedToken::from(t, true)).to_vec();
    let trainer = UnigramTrainer::builder()
        .vocab_size(vocab_size as u32)
        .special_tokens(special)
        .unk_token(Some("[UNK]".into()))
        .show_progress(false)
        .build()?;
    let mut sentences: Vec<(String, u32)> =
        words.iter().map(|(w, n)| (w.to_string(), u32::try_from(*n).unwrap_or(u32::MAX))).collect();
    sentences.sort_unstable();
    let mut model = Unigram::default();
    // On several threads the library adds floating-point counts in an order that depends on them.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| trainer.do_train(sentences, &mut model))?;
    in_fixed_order(&model)
}

/// The same model with its pieces in order: the library gives characters that no piece covers their
/// scores, just above the lowest one, in the order of a hash map.
fn in_fixed_order(model: &Unigram) -> std::result::Result<Unigram, tokenizers::Error> {
    const STEP: f64 = 1e-4; // between the scores that the library assigns
    let all: Vec<(String, f64)> = model.iter().cloned().collect();
    let (special, pieces) = all.split_at(SPECIAL_TOKENS.len().min(all.len()));
    let lowest = pieces.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let single = |p: &&(String, f64)| p.0.chars().count() == 1;
    let bound = lowest + STEP * (pieces.iter().filter(single).count() + 1) as f64;
    let (late, mut ordered): (Vec<_>, Vec<_>) =
        pieces.iter().cloned().partition(|p| single(&p) && p.1 <= bound);
    let (mut letters, mut scores): (Vec<String>, Vec<f64>) = late.into_iter().unzip();
    letters.sort_unstable();
    scores.sort_by(f64::total_cmp);
    ordered.extend(letters.into_iter().zip(scores));
    ordered.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let unknown = special.iter().position(|t| t.0 == "[UNK]");
    Unigram::from(special.iter().cloned().chain(ordered).collect(), unknown, false)
}
