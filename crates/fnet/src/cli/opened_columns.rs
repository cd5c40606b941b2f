//! Which columns of a file a model reads: those that flags name, or those that it was fine-tuned on.

use std::path::Path;

use clap::Args;
use fnet_encoder::{Head, Pairs};
use fnet_train::data::tasks::dataset::Labels;
use fnet_train::data::tasks::glue::GlueTask;
use fnet_train::data::tasks::rows::{Columns, Format, format_of, only_text_column};
use fnet_train::data::text::format_ending;
use fnet_train::runs::finetune::FinetuneSettings;
use fnet_train::{Error, Result};

use super::columns::column_names;
use super::opened::Opened;

/// Which columns of a file hold the texts.
#[derive(Args)]
pub struct ColumnFlags {
    /// GLUE task whose columns the file has; by default the task the model was fine-tuned on
    #[arg(long)]
    pub task: Option<String>,
    /// One or two text columns, with a comma; a name with a comma stands in quotes. By default those the model was
    /// fine-tuned on, or else the only column with text in it
    #[arg(long, value_name = "COLUMN", conflicts_with = "task")]
    pub text: Vec<String>,
    /// The file has no header: columns are numbers, from 1
    #[arg(long, requires = "text")]
    pub no_header: bool,
}

impl Opened {
    /// Name of the GLUE task, given or trained on.
    pub fn task<'a>(&'a self, flags: &'a ColumnFlags) -> Option<&'a str> {
        if !flags.text.is_empty() {
            return None;
        }
        let trained = || self.trained.as_ref().and_then(|t| t.task.as_deref());
        flags.task.as_deref().or_else(trained)
    }

    /// The text columns of a file.
    pub fn text_columns(&self, flags: &ColumnFlags, file: &Path) -> Result<Columns> {
        self.columns(flags, None, file)
    }

    /// The text columns of a file, and its label's: the one that is given, or else the one trained on.
    pub fn labelled_columns(&self, flags: &ColumnFlags, label: Option<&str>, file: &Path) -> Result<Columns> {
        let columns = self.columns(flags, label.or_else(|| self.trained.as_ref()?.label.as_deref()), file)?;
        let several_labels = matches!(self.predictor.labels(), Ok(Labels::Several(_)));
        match columns.label {
            Some(_) => Ok(Columns { several_labels, ..columns }),
            None => Err(Error::usage("--label: name the column with the label")),
        }
    }

    fn columns(&self, flags: &ColumnFlags, label: Option<&str>, file: &Path) -> Result<Columns> {
        let columns = self.named_columns(flags, label, file)?;
        columns.check_segments(self.predictor.model().config())?;
        self.check_texts(columns.text.len().max(1))?;
        Ok(columns)
    }

    fn named_columns(&self, flags: &ColumnFlags, label: Option<&str>, file: &Path) -> Result<Columns> {
        if let Some(task) = self.task(flags) {
            let name = file.file_name().map_or("".into(), |n| n.to_string_lossy());
            return Ok(GlueTask::named(task)?.columns(&name));
        }
        if !flags.text.is_empty() {
            let columns = Columns::named(&column_names(&flags.text)?, label, !flags.no_header)?;
            if format_ending(file) == "txt" && format_of(file, &columns)? == Format::Txt {
                let message = "--text: there are no such columns; a .txt file has a text a line";
                return Err(Error::file(file, message));
            }
            return Ok(columns);
        }
        if let Some(trained) = self.trained.as_ref().filter(|trained| !trained.text.is_empty()) {
            return Columns::named(&trained.text, label, !trained.no_header);
        }
        match only_text_column(file)? {
            Some(name) => Columns::named(&[name], label, true),
            None => Ok(Columns::of_lines()),
        }
    }

    /// Refuses one text for a model of pairs, and two for a model of single texts.
    fn check_texts(&self, given: usize) -> Result<()> {
        if !matches!(self.predictor.model().head(), Head::Classification { .. } | Head::Regression) {
            return Ok(());
        }
        let of_task = |t: &FinetuneSettings| Some(GlueTask::named(t.task.as_deref()?).ok()?.text.len());
        let trained = self.trained.as_ref();
        let trained = trained.and_then(|t| of_task(t).or(Some(t.text.len()).filter(|n| *n > 0)));
        // A pair in one sequence counts as one text of the model.
        let in_towers = self.predictor.model().config().classifier_pairs != Pairs::Together;
        let wanted = if in_towers { Some(2) } else { trained };
        match wanted.filter(|wanted| *wanted != given) {
            Some(wanted) => {
                let number = |n: usize| if n == 1 { "one text" } else { "two texts" };
                let (wanted, given) = (number(wanted), number(given));
                Err(Error::usage(format!(
                    "--text: the model was fine-tuned on {wanted} a row, this names {given}"
                )))
            }
            None => Ok(()),
        }
    }
}
