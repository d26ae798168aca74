//! `--format`, as most commands that show something have it.

use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::Listing;

flags! {
    /// Of what shows single things.
    pub(super) struct TemplateFormat {
        /// Format output using a custom template:
        ///
        /// 'json':             Print in JSON format
        ///
        /// 'TEMPLATE':         Print output using the given Go template.
        format: Option<String> = "format" short "f";
    }
}

flags! {
    /// Of what shows lists.
    pub(super) struct TableFormat {
        /// Format output using a custom template:
        ///
        /// 'table':            Print output in table format with column headers (default)
        ///
        /// 'table TEMPLATE':   Print output in table format using the given Go template
        ///
        /// 'json':             Print in JSON format
        ///
        /// 'TEMPLATE':         Print output using the given Go template.
        format: Option<String> = "format";
    }
}

/// What the words `table` and `raw` stand for in a list, each without and with `--quiet`.
pub(super) struct Named {
    pub(super) table: &'static str,
    pub(super) quiet_table: &'static str,
    pub(super) raw: &'static str,
    pub(super) quiet_raw: &'static str,
}

impl Named {
    /// Shows a list by `--format`, else, unless `quiet`, by the client's configuration, else as its table.
    pub(super) fn show(
        &self,
        cx: &Cx,
        listing: &Listing,
        quiet: bool,
        given: &TableFormat,
        configured: Option<&str>,
    ) -> Outcome {
        let configured = configured.filter(|_| !quiet);
        let is_given = |format: &&str| !format.is_empty();
        let format = given.format.as_deref().filter(is_given).or(configured);
        let shown = match (format, quiet) {
            (None | Some("table"), true) => listing.render(Some(self.quiet_table), self.table),
            (Some("raw"), true) => listing.render(Some(self.quiet_raw), self.table),
            (Some("raw"), false) => listing.render(Some(self.raw), self.table),
            (format, _) => listing.render(format, self.table),
        };
        cx.print(&shown.map_err(Failure::new)?)?;
        Ok(0)
    }
}

/// What is said of a text that is no template.
pub(super) fn bad_template(why: &str) -> Failure {
    Failure::new(format!("template parsing error: {why}")).with_code(64)
}
