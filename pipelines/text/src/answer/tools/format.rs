//! How models write tool calls: a row per format, found by what a chat template's text has in it. What reads calls, and
//! what constrains them, takes all that it does from here.

/// A format of tool calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ToolFormat {
    pub(crate) name: &'static str,
    /// The chat template's text has all of these.
    signs: &'static [&'static str],
    /// What opens a call within text; empty where nothing does.
    pub(crate) open: &'static str,
    /// What closes it; empty where its own end does.
    pub(crate) close: &'static str,
    /// An answer that begins with `{` is a call as well, if it names a tool that there is.
    pub(crate) bare: bool,
    /// What stands between two calls under one mark; `None` where each has its own.
    pub(crate) separator: Option<&'static str>,
    pub(crate) body: Body,
    pub(crate) ids: Ids,
    /// How a call is written where one must come.
    pub(crate) written: Written,
}

/// What stands after the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// An object with the name and the arguments.
    Object,
    /// A list of such objects, or a name and then the arguments.
    ListOrName,
    /// `<function=name>`, and a `<parameter=key>` for each argument.
    Tags,
}

/// What a call's id looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// `call_` and 24 hexadecimal digits.
    Long,
    /// Nine letters and digits, which templates of this kind insist on.
    Nine,
}

/// The text around names and arguments. Marks among it are written as the tokens they are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Before the first call.
    pub(crate) start: &'static str,
    /// Before a name.
    pub(crate) open: &'static str,
    /// Between a name and its arguments.
    pub(crate) middle: &'static str,
    /// After the arguments.
    pub(crate) close: &'static str,
    /// Between two calls.
    pub(crate) between: &'static str,
    /// After the last.
    pub(crate) end: &'static str,
}

/// The formats that are known; the first whose signs a template has is its own.
static FORMATS: [ToolFormat; 5] = [
    // Qwen3-Coder.
    ToolFormat {
        name: "tags",
        signs: &["<tool_call>", "<function=", "<parameter="],
        open: "<tool_call>",
        close: "</tool_call>",
        bare: false,
        separator: None,
        body: Body::Tags,
        ids: Ids::Long,
        written: Written {
            start: "",
            open: "<tool_call>\n<function=",
            middle: ">\n",
            close: "</function>\n</tool_call>",
            between: "\n",
            end: "",
        },
    },
    // Hermes, Qwen2.5, Qwen3, SmolLM3, …
    ToolFormat {
        name: "hermes",
        signs: &["<tool_call>"],
        open: "<tool_call>",
        close: "</tool_call>",
        bare: false,
        separator: None,
        body: Body::Object,
        ids: Ids::Long,
        written: Written {
            start: "",
            open: "<tool_call>\n{\"name\": \"",
            middle: "\", \"arguments\": ",
            close: "}\n</tool_call>",
            between: "\n",
            end: "",
        },
    },
    // Mistral's newer tokenizers.
    ToolFormat {
        name: "mistral-names",
        signs: &["[TOOL_CALLS]", "[ARGS]"],
        open: "[TOOL_CALLS]",
        close: "",
        bare: false,
        separator: None,
        body: Body::ListOrName,
        ids: Ids::Nine,
        written: Written {
            start: "",
            open: "[TOOL_CALLS]",
            middle: "[ARGS]",
            close: "",
            between: "",
            end: "",
        },
    },
    // Mistral 7B v0.3, Nemo, Mixtral 8x22B, …
    ToolFormat {
        name: "mistral-list",
        signs: &["[TOOL_CALLS]"],
        open: "[TOOL_CALLS]",
        close: "",
        bare: false,
        separator: None,
        body: Body::ListOrName,
        ids: Ids::Nine,
        written: Written {
            start: "[TOOL_CALLS][",
            open: "{\"name\": \"",
            middle: "\", \"arguments\": ",
            close: "}",
            between: ", ",
            end: "]",
        },
    },
    // Llama 3.1, 3.2, 3.3.
    ToolFormat {
        name: "llama",
        signs: &["\"name\": ", "\"parameters\": ", "ipython"],
        open: "<|python_tag|>",
        close: "",
        bare: true,
        separator: Some(";"),
        body: Body::Object,
        ids: Ids::Long,
        written: Written {
            start: "",
            open: "{\"name\": \"",
            middle: "\", \"parameters\": ",
            close: "}",
            between: "; ",
            end: "",
        },
    },
];

/// For templates of no known format: what a call is asked for as when one must come.
pub(crate) static PLAIN: ToolFormat = ToolFormat {
    name: "plain",
    signs: &[],
    open: "",
    close: "",
    bare: true,
    separator: None,
    body: Body::Object,
    ids: Ids::Long,
    written: Written {
        start: "",
        open: "{\"name\": \"",
        middle: "\", \"arguments\": ",
        close: "}",
        between: "\n",
        end: "",
    },
};

/// Marks that may be special tokens.
const MARKS: [&str; 6] = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[CALL_ID]",
    "[ARGS]",
    "<|python_tag|>",
];

impl ToolFormat {
    /// The format that a chat template's text shows.
    pub(crate) fn of_template(source: &str) -> Option<&'static Self> {
        FORMATS
            .iter()
            .find(|format| format.signs.iter().all(|sign| source.contains(sign)))
    }

    /// The marks that a format's calls may hold.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &'static str> + '_ {
        let names = self.body == Body::ListOrName;
        MARKS.into_iter().filter(move |mark| {
            *mark == self.open
                || *mark == self.close
                || (names && matches!(*mark, "[CALL_ID]" | "[ARGS]"))
        })
    }
}
