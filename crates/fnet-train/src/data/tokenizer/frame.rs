//! What a post-processor puts around texts, found by trying it: `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]`, or not.

use tokenizers::{Encoding, PostProcessor, Token, Tokenizer as Inner};

use super::Special;

/// Stands for a text.
const TEXT: u32 = u32::MAX - 1;

/// Checks what the tokenizer puts around one text and around two. An error if no model here can read it; `Some`
/// says what is wrong with pairs alone.
pub(super) fn check(inner: &Inner, special: Special) -> Result<Option<String>, String> {
    let Some(processor) = inner.get_post_processor() else { return Ok(None) };
    let text = || Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
    let run = |pair: Option<Encoding>| -> Result<Vec<(u32, u32)>, String> {
        let made = processor.process(text(), pair, true).map_err(|e| e.to_string())?;
        Ok(made.get_ids().iter().copied().zip(made.get_type_ids().iter().copied()).collect())
    };
    let Special { cls, sep, .. } = special;
    let spelled = |made: &[(u32, u32)]| -> String {
        let token = |(id, segment): &(u32, u32)| match *id {
            TEXT => format!("text:{segment}"),
            id => format!("{}:{segment}", inner.id_to_token(id).unwrap_or_else(|| id.to_string())),
        };
        made.iter().map(token).collect::<Vec<_>>().join(" ")
    };
    let single = run(None)?;
    if single != [(cls, 0), (TEXT, 0), (sep, 0)] {
        let wanted = spelled(&[(cls, 0), (TEXT, 0), (sep, 0)]);
        return Err(format!(
            "its post-processor makes `{}` of a text; models here read `{wanted}`",
            spelled(&single)
        ));
    }
    let pair = run(Some(text()))?;
    let wanted = [(cls, 0), (TEXT, 0), (sep, 0), (TEXT, 1), (sep, 1)];
    if pair == wanted {
        return Ok(None);
    }
    let (made, wanted) = (spelled(&pair), spelled(&wanted));
    Ok(Some(format!("its post-processor makes `{made}` of a pair; models here read `{wanted}`")))
}
