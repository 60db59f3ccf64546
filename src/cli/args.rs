//! Which words does the command line know?
//!
//! Types for clap and nothing else; `quiver help VERB` prints what stands here.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quiverdb::chunk::ChunkerKind;
use quiverdb::context::ContextFormat;
use quiverdb::embed::builtin::DistillOptions;
use quiverdb::embed::{Backend, Device, Runtime};
use quiverdb::fuse::{Fusion, RECIPROCAL_RANK_K};
use quiverdb::{Filter, Language, Metric, Mode, Query, SpaceConfig};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::session::Mistake;

const AFTER_HELP: &str = "\
Examples:
  quiver search --in ~/notes \"how do I share data between threads?\"
  quiver add ~/notes report.md; quiver search -k 3 \"what did we decide?\"
  quiver search --json --filter \"media_type = 'text/markdown'\" borrowing | jq .hits[0].text

Exit codes:
  0  done
  1  the world's fault: I/O, a model that is not there, stopped by Ctrl-C
  2  the caller's: bad flags, bad input, nothing of that name
  3  ours: damaged data, a bug
  4  partly done: some documents were rejected (they are listed), the rest is in";

const DOCUMENTS_HELP: &str = r#"A line of JSONL is a document:
  {"id": 7, "text": "...", "title": "...", "metadata": {"year": 2024}, "vector": [0.1, ...]}
`_id` may stand for `id`; a title, metadata and a vector may be left out, and the text where there is a vector. Other keys
become metadata. "vectors": {"image": [...]} brings the vectors of further spaces; each external one needs its own.
"expires_at": "2030-01-31T12:00:00Z" (or "2030-01-31", midnight in UTC, or seconds since 1970) hides the document from then
on; one that has expired already is taken, counted ("expired"), and found by nothing.
A file is a document whose id is its path below the folder given; hidden files and those that .gitignore, .ignore or
.quiverignore name are left out."#;

const FILTERS_HELP: &str = r#"Filters:
  year >= 2020 AND lang IN ('en', 'de')        = != < <= > >=, IN, NOT IN
  title PREFIX 'The' OR tags CONTAINS 'rust'   strings begin with, strings and arrays contain
  NOT (draft = true) AND EXISTS author.name    dots look into objects
  source PREFIX '/data/notes'                  where a file came from; $id and $title are the document's own
The same in JSON: {"and": [{"year": {"gte": 2020}}, {"lang": {"in": ["en", "de"]}}]}"#;

const MCP_HELP: &str = r#"In the settings of a program that speaks the protocol:
  {"mcpServers": {"notes": {"command": "quiver", "args": ["--db", "/data/notes.db", "mcp", "--read-only"]}}}
`quiver serve` speaks it, too, at /mcp; use that where several programs share a database."#;

const IMPORT_HELP: &str = "\
A row is a document. Columns called id (or _id), text, title, vector,
vectors.SPACE, metadata and expires_at are that, unless --map says otherwise;
all others become metadata with their types. A row without an id is FILE#ROW.
Files: .parquet, .arrow, .feather, .arrows; .csv, .tsv, .jsonl, .ndjson, also
with .gz or .zst behind.
  quiver import wiki.parquet --map id=page_id,text=body
  quiver import points.parquet --map vector=embedding --rejects bad.jsonl
An import that was stopped or killed goes on where it was with the same
command, a finished one does nothing, and of a file that has changed only what
differs is embedded. In CSV a column is numbers where all of its values are
written as numbers (007 is text); an empty field is no value. An id is a number
where it is written as one, each for itself.";

const EXPORT_HELP: &str = "\
Examples:
  quiver export notes.parquet --vectors                        all of it; importing that embeds nothing
  quiver export passages.parquet --chunks --vectors            passages and their vectors, for pandas, DuckDB, LanceDB
  quiver export - --filter \"lang = 'de'\" | jq -r .text        documents as JSONL
The file is there when it is whole, and never before.";

const SPACES_HELP: &str = r#"Further spaces, each with a name and what its vectors come from:
  --space code=models/codebert       a model: every passage has a second vector; search --space code
  --space image=external:512         no model: JSONL documents bring "vectors": {"image": [...]} for all their passages
  --space image=external:512:dot     the same, compared by dot product (cosine unless told; l2)"#;

const REEMBED_HELP: &str = "\
Examples:
  quiver reembed --model BAAI/bge-small-en-v1.5     another model; --keep-old keeps the vectors of the old one beside
  quiver reembed --dims 128                         fewer dimensions of the same one
  quiver reembed --rechunk --chunk-tokens 128       other passages
  quiver reembed                                    goes on after Ctrl-C or a crash
Until all is done the old vectors answer; then one transaction swaps. Documents that are added meanwhile are in both.";

const SERVE_HELP: &str = "\
Settings come from flags, then from the environment (the flag's name behind QUIVER_, lists with commas: QUIVER_API_KEY,
QUIVER_LIMIT=hits=100,batch=64), then from the file; a list that is given replaces the one below it. A setting or a
variable QUIVER_... that is not known is refused.
  quiver serve                                          this machine alone, no key
  openssl rand -hex 32 > key; quiver serve --listen 0.0.0.0:7333 --api-key-file key --host search.example \\
    --tls-certificate chain.pem --tls-key key.pem       others, too
The first Ctrl-C or SIGTERM lets requests end, the second does not.";

const PULL_HELP: &str = "\
Only safetensors, ONNX, JSON and vocabularies are taken; a pickle only with --file. What breaks off goes on from there.
Environment, as for Python's tools:
  HF_HOME, HF_HUB_CACHE      where the cache is [default: ~/.cache/huggingface/hub]
  HF_ENDPOINT                a mirror of the hub
  HF_TOKEN                   for private and gated models
  HF_HUB_OFFLINE=1           ask nobody, read the cache only
  HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE";

/// Where the help of a verb lists what every verb takes: after its own.
const GLOBAL: &str = "Global options";

/// The embedded vector database that embeds for you: text in, cited passages out
#[derive(Parser)]
#[command(name = "quiver", version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The database: a folder
    #[arg(long, global = true, help_heading = GLOBAL, env = "QUIVER_DB", default_value = "./quiver.db", value_name = "DIR")]
    pub(crate) db: PathBuf,
    /// Print one JSON value; `embed` and `rerank` print one a line
    #[arg(long, global = true, help_heading = GLOBAL, conflicts_with = "jsonl")]
    pub(crate) json: bool,
    /// Print one JSON value a line
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) jsonl: bool,
    #[command(flatten)]
    pub(crate) runtime: RuntimeOptions,
    /// Keep up to so many bytes of vectors of texts that models read before, such as 64MiB; 0 keeps none [default: 256MiB]
    #[arg(long, global = true, help_heading = GLOBAL, env = "QUIVER_EMBEDDING_CACHE", value_name = "BYTES", value_parser = bytes, hide_env_values = true)]
    pub(crate) embedding_cache: Option<u64>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// A number of bytes, in units of 1,000 (kB, MB, GB) or 1,024 (KiB, MiB, GiB) where one is named.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => 0,
    };
    let bytes = number.parse::<u64>().ok().filter(|_| unit > 0).and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| "give a whole number of bytes, with a unit if you like: 0, 1000000, 64MB, 256MiB".into())
}

/// How models run.
#[derive(Args)]
pub(crate) struct RuntimeOptions {
    /// Where transformer models run: cpu, cuda, cuda:1, metal, tensorrt, coreml, directml, openvino [default: cpu]
    #[arg(long, global = true, help_heading = GLOBAL, env = "QUIVER_DEVICE", value_name = "DEVICE", hide_env_values = true)]
    device: Option<Device>,
    /// The library of ONNX Runtime, or its folder [default: ORT_DYLIB_PATH, else the one of a Python package]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "PATH")]
    onnx_runtime: Option<PathBuf>,
}

impl RuntimeOptions {
    pub(crate) fn runtime(&self) -> Runtime {
        let runtime = Runtime::new().device(self.device.unwrap_or_default());
        match &self.onnx_runtime {
            Some(path) => runtime.onnx_runtime(path),
            None => runtime,
        }
    }
}

/// What runs a model that is named beside it.
#[derive(Args)]
pub(crate) struct BackendOption {
    /// What runs a transformer: candle (safetensors) or onnx; as `onnx:DIR`. [default: what its files are for]
    #[arg(long, value_name = "candle|onnx")]
    backend: Option<Backend>,
}

impl BackendOption {
    /// Whether one was given.
    pub(crate) fn is_given(&self) -> bool {
        self.backend.is_some()
    }

    /// The name of a model that runs so.
    pub(crate) fn model(&self, name: &str) -> Result<String, Mistake> {
        let Some(backend) = self.backend else { return Ok(name.to_owned()) };
        if matches!(name, "builtin" | "external") {
            let message = format!("--backend says what runs a transformer; `{name}` is none");
            return Err(Mistake::new(message).hint("leave out --backend, or name a model's directory with --model"));
        }
        let is_prefixed =
            |backend: Backend| name.strip_prefix(backend.name()).is_some_and(|rest| rest.starts_with(':'));
        match Backend::ALL.into_iter().find(|&backend| is_prefixed(backend)) {
            Some(named) if named != backend => {
                let message = format!("`{name}` names {}, and --backend {}", named.name(), backend.name());
                Err(Mistake::new(message).hint("leave one of them out"))
            }
            Some(_) => Ok(name.to_owned()),
            None => Ok(format!("{}:{name}", backend.name())),
        }
    }
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a run")]
pub(crate) enum Verb {
    /// Find passages; with --in, add files or folders first (only what changed)
    Search(Box<Search>),
    /// Add files, folders, or JSONL documents from stdin
    Add(Add),
    /// Print whole documents
    Get(Get),
    /// Delete documents by id or by filter
    Delete(Delete),
    /// List, create, show, drop or rename collections
    Collections(Collections),
    /// The collections in numbers
    Stats,
    /// Check every record and invariant; exit code 3 where one is violated
    Check {
        /// Build segments again that are missing or damaged; all that they hold is in data.redb
        #[arg(long)]
        repair: bool,
    },
    /// Give back what deleted documents take on disk
    Compact {
        /// Forget the vectors of texts that models read before, too
        #[arg(long)]
        drop_cache: bool,
    },
    /// Print the whole database as text
    Dump,
    /// Copy the database into a folder; the copy is verified and on disk when this is done
    Backup {
        /// The folder: empty, or not there yet
        folder: PathBuf,
    },
    /// Make the database of --db out of a backup, which is verified first
    Restore {
        /// The backup's folder
        folder: PathBuf,
        /// Replace the database that is there
        #[arg(long)]
        replace: bool,
    },
    /// Turn lines on stdin into vectors, one {"embedding": [...]} a line; or add them to a table as a column
    Embed(Embed),
    /// Judge lines on stdin by how well they answer a query, best first
    Rerank(RerankLines),
    /// List, show or make models
    Models(Models),
    /// Measure the quality of search: nDCG@10, recall, MRR@10 and latency
    Eval(Eval),
    /// Measure speed on this machine
    Bench(Bench),
    /// Import files of rows, each row exactly once: Parquet, Arrow IPC, CSV, JSON Lines
    Import(Import),
    /// Write a collection into a file: Parquet, Arrow, CSV or JSONL; documents or passages, with vectors or without
    Export(Export),
    /// Change a collection's model, dimensions or chunks while it is in use
    Reembed(Reembed),
    /// Answer over HTTP, on this machine alone unless told
    Serve(Serve),
    /// Give a language model's program tools to search and add: the Model Context Protocol over stdin and stdout
    Mcp(Mcp),
}

/// `quiver mcp`.
#[derive(Args)]
#[command(after_help = MCP_HELP)]
pub(crate) struct Mcp {
    /// Only the tools that read
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Only this collection; may be given several times [default: all]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) collection: Vec<String>,
    /// A model that new collections may name besides the built-in one; may be given several times
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Vec<String>,
}

/// `quiver serve`. What is given here stands above the environment, and that above the file.
#[derive(Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct Serve {
    /// The address [default: 127.0.0.1:7333]; one beyond this machine needs a key
    #[arg(long, value_name = "ADDRESS", env = "QUIVER_LISTEN")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// A file of settings in TOML, with the names that --print-config shows
    #[arg(long, value_name = "FILE", env = "QUIVER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// A key that may do everything, of 16 bytes or more. Others on this machine see it in the list of processes: the
    /// environment and --api-key-file keep it from them
    #[arg(long, value_name = "KEY", env = "QUIVER_API_KEY", value_delimiter = ',', hide_env_values = true)]
    pub(crate) api_key: Vec<String>,
    /// A file of such keys, one a line
    #[arg(long, value_name = "FILE", env = "QUIVER_API_KEY_FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// A key that may only read
    #[arg(long, value_name = "KEY", env = "QUIVER_READ_ONLY_KEY", value_delimiter = ',', hide_env_values = true)]
    pub(crate) read_only_key: Vec<String>,
    /// A file of such keys, one a line
    #[arg(long, value_name = "FILE", env = "QUIVER_READ_ONLY_KEY_FILE")]
    pub(crate) read_only_key_file: Option<PathBuf>,
    /// Refuse all writes, whatever the key
    #[arg(long, env = "QUIVER_READ_ONLY", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) read_only: bool,
    /// A name under which others reach the server, besides localhost and its address
    #[arg(long, value_name = "NAME", env = "QUIVER_HOST", value_delimiter = ',')]
    pub(crate) host: Vec<String>,
    /// Let web pages of this origin ask, such as `https://app.example`
    #[arg(long, value_name = "ORIGIN", env = "QUIVER_CORS_ORIGIN", value_delimiter = ',')]
    pub(crate) cors_origin: Vec<String>,
    /// Requests may import files below this folder by their path
    #[arg(long, value_name = "DIR", env = "QUIVER_IMPORT_ROOT")]
    pub(crate) import_root: Option<PathBuf>,
    /// Requests may back up the database into new folders below this one
    #[arg(long, value_name = "DIR", env = "QUIVER_BACKUP_ROOT")]
    pub(crate) backup_root: Option<PathBuf>,
    /// A model that requests may name, besides `builtin` and those of collections
    #[arg(long, value_name = "M", env = "QUIVER_MODEL", value_delimiter = ',')]
    pub(crate) model: Vec<String>,
    /// A cross-encoder that requests may name
    #[arg(long, value_name = "M", env = "QUIVER_RERANKER", value_delimiter = ',')]
    pub(crate) reranker: Vec<String>,
    /// The chain of certificates for HTTPS, in PEM
    #[arg(long, value_name = "FILE", env = "QUIVER_TLS_CERTIFICATE")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", env = "QUIVER_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Take keys over plain HTTP from other machines: only where something before the server speaks HTTPS
    #[arg(long, env = "QUIVER_INSECURE", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) insecure: bool,
    /// The log on stderr: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "QUIVER_LOG")]
    pub(crate) log: Option<String>,
    /// What is logged, in the words of RUST_LOG: warn, or info,quiverdb=debug [default: info,rmcp=warn]
    #[arg(long, value_name = "FILTER", env = "QUIVER_LOG_FILTER")]
    pub(crate) log_filter: Option<String>,
    /// What a request may cost, such as hits=100; --print-config shows all names
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',')]
    pub(crate) limit: Vec<String>,
    /// The limits of the environment, which flags stand above one by one
    #[arg(long = "limit-below", hide = true, env = "QUIVER_LIMIT", hide_env = true, value_delimiter = ',')]
    pub(crate) limit_below: Vec<String>,
    /// Show the settings that would hold, keys hidden, and stop
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// Which collection.
#[derive(Args)]
pub(crate) struct Target {
    /// The collection
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    pub(crate) collection: String,
}

#[derive(Args)]
#[command(after_help = FILTERS_HELP)]
pub(crate) struct Search {
    /// What you want to know; several words need no quotes
    #[arg(
        value_name = "QUERY",
        required_unless_present_any = ["queries", "vector", "vector_file", "image"],
        conflicts_with = "queries"
    )]
    pub(crate) query: Vec<String>,
    /// Add this file or folder first; may be given more than once. The whole collection is searched
    #[arg(long = "in", value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
    /// The model of a new collection: `builtin`, a directory, owner/name of the hub, or http://host/v1#name; that of an
    /// existing one must be the same
    #[arg(long, value_name = "M")]
    pub(crate) model: Option<String>,
    /// How many hits
    #[arg(short = 'k', long = "limit", visible_alias = "top-k", default_value_t = 10, value_name = "N")]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) ranking: Ranking,
    /// Compare passages with this vector, a JSON array, instead of one that the model makes of the words
    #[arg(long, value_name = "JSON", conflicts_with_all = ["queries", "vector_file"])]
    pub(crate) vector: Option<Vector>,
    /// The same from a file: a JSON array, or what `quiver embed` prints; `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "queries")]
    pub(crate) vector_file: Option<PathBuf>,
    /// Compare passages and pictures with this picture (PNG, JPEG, WebP, GIF); the collection's model must read images
    #[arg(long, value_name = "FILE", conflicts_with_all = ["queries", "vector", "vector_file"])]
    pub(crate) image: Option<PathBuf>,
    /// Have this reranker judge the best candidates again: a directory, owner/name of the hub, or http://host/v1#name
    #[arg(long, value_name = "M")]
    pub(crate) rerank: Option<String>,
    /// How many candidates it judges, and no fewer than -k [default: 50]
    #[arg(long, value_name = "N", requires = "rerank")]
    pub(crate) rerank_depth: Option<usize>,
    /// Stop judging after so many milliseconds; what is left follows in its order, with scores below the lowest judged
    #[arg(long, value_name = "MS", requires = "rerank")]
    pub(crate) rerank_ms: Option<u64>,
    /// Read the query's signs: "a phrase", prefix*, fuzzy~, +required, -excluded, AND, OR, NOT and parentheses, as in
    /// --syntax '+"data race" (thread* OR mutx~) -tokio'. Only passages that satisfy it are hits, in every mode
    #[arg(long)]
    pub(crate) syntax: bool,
    /// Only documents that match, as in "year >= 2020 AND lang IN ('en', 'de')", or JSON
    #[arg(long, value_name = "EXPR")]
    pub(crate) filter: Option<Filter>,
    /// Drop hits that score lower
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) min_score: Option<f32>,
    /// At most one hit a document
    #[arg(long)]
    pub(crate) group: bool,
    /// Trade relevance (1) for variety (0)
    #[arg(long, value_name = "X")]
    pub(crate) mmr: Option<f32>,
    /// Say how each score came about, and what took how long
    #[arg(long)]
    pub(crate) explain: bool,
    /// Show long passages whole
    #[arg(long)]
    pub(crate) full: bool,
    /// Print the best passages as one text for a language model, numbered and cited, of at most so many tokens
    #[arg(long, value_name = "TOKENS", conflicts_with_all = ["queries", "explain", "full"])]
    pub(crate) context: Option<usize>,
    /// How it is written [default: text]
    #[arg(long, value_name = "text|xml|json", value_parser = context_format, requires = "context")]
    pub(crate) context_format: Option<ContextFormat>,
    /// What the hits leave of it goes to so many passages before and after each
    #[arg(long, value_name = "N", requires = "context")]
    pub(crate) neighbours: Option<u32>,
    /// Ask all queries of a JSONL file of {"_id", "text"}; prints one result a line
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: Option<PathBuf>,
}

fn context_format(name: &str) -> Result<ContextFormat, String> {
    let known = ContextFormat::ALL.map(ContextFormat::name);
    let found = ContextFormat::ALL.into_iter().find(|format| format.name() == name);
    found.ok_or_else(|| format!("it is written as {}", known.join(", ")))
}

/// How hits are ranked.
#[derive(Args, Clone)]
pub(crate) struct Ranking {
    /// Which legs answer: vectors and text, vectors alone, or text alone [default: hybrid]
    #[arg(long, value_parser = by_name::<Mode>, value_name = "hybrid|dense|text")]
    pub(crate) mode: Option<Mode>,
    /// Which vector space is searched [default: default]
    #[arg(long, value_name = "NAME")]
    pub(crate) space: Option<String>,
    /// How hybrid search fuses its legs: by score, or by reciprocal rank [default: score]
    #[arg(long, value_enum, value_name = "score|rank", hide_possible_values = true)]
    pub(crate) fusion: Option<FusionName>,
    /// The weight of the dense leg in fusion by score [default: the model's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) weight: Option<f32>,
    /// Compare every vector instead of walking through graphs
    #[arg(long, conflicts_with_all = ["ef", "effort"])]
    pub(crate) exact: bool,
    /// The candidates that a walk through a graph keeps [default: 64]
    #[arg(long, value_name = "N", conflicts_with = "effort")]
    pub(crate) ef: Option<usize>,
    /// How hard to look for the nearest vectors, 0 to 1 [default: 0.33]
    #[arg(long, value_name = "X")]
    pub(crate) effort: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FusionName {
    Score,
    Rank,
}

impl Ranking {
    /// Refuses options that would have no effect.
    pub(crate) fn check(&self) -> Result<(), Mistake> {
        if let (Some(Mode::Text), Some(space)) = (self.mode, &self.space) {
            let message = format!("--space {space} says which vectors are compared; --mode text compares none");
            return Err(Mistake::new(message).hint("leave out --space, or --mode"));
        }
        let option = if self.fusion.is_some() { "--fusion" } else { "--weight" };
        match (self.mode, self.fusion, self.weight) {
            (Some(mode @ (Mode::Dense | Mode::Text)), Some(_), _)
            | (Some(mode @ (Mode::Dense | Mode::Text)), _, Some(_)) => {
                let message =
                    format!("{option} says how hybrid search fuses its legs; --mode {} has one only", mode.name());
                Err(Mistake::new(message).hint(format!("leave out {option}, or --mode")))
            }
            (_, Some(FusionName::Rank), Some(weight)) => {
                let message = format!("--fusion rank weighs both legs alike; got --weight {weight}");
                Err(Mistake::new(message).hint("leave out --weight, or use --fusion score"))
            }
            _ => Ok(()),
        }
    }

    /// A query that is answered so.
    pub(crate) fn apply(&self, mut query: Query) -> Query {
        if let Some(mode) = self.mode {
            query = query.mode(mode);
        }
        if let Some(space) = &self.space {
            query = query.space(space);
        }
        if let Some(fusion) = self.fusion() {
            query = query.fusion(fusion);
        }
        if let Some(ef) = self.ef {
            query = query.ef(ef);
        }
        if let Some(effort) = self.effort {
            query = query.effort(effort);
        }
        if self.exact { query.exact() } else { query }
    }

    /// The fusion asked for; `None` where the model's own is.
    pub(crate) fn fusion(&self) -> Option<Fusion> {
        match (self.fusion, self.weight) {
            (Some(FusionName::Rank), _) => Some(Fusion::ReciprocalRank { k: RECIPROCAL_RANK_K }),
            (Some(FusionName::Score) | None, Some(weight)) => Some(Fusion::Score { weight: Some(weight) }),
            (Some(FusionName::Score), None) => Some(Fusion::Score { weight: None }),
            (None, None) => None,
        }
    }
}

#[derive(Args)]
#[command(after_help = DOCUMENTS_HELP)]
pub(crate) struct Add {
    /// Files (text, Markdown, code, HTML, Word, OpenDocument, slides, sheets, EPUB, PDF, JSON, JSONL) and folders; `-` reads
    /// JSONL documents from stdin
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Also remove documents that came from these paths and are gone
    #[arg(long)]
    pub(crate) sync: bool,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on, with --sync, whenever something changes, until Ctrl-C; a line for each change (of JSON with --json)
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) watch: bool,
    /// The model of a new collection: `builtin`, a directory, owner/name of the hub, or http://host/v1#name; that of an
    /// existing one must be the same
    #[arg(long, value_name = "M")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) backend: BackendOption,
}

#[derive(Args)]
#[command(after_help = REEMBED_HELP)]
pub(crate) struct Reembed {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The new model: `builtin`, a directory, owner/name of the hub, or http://host/v1#name
    #[arg(long, value_name = "M")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) backend: BackendOption,
    /// Keep only the first N dimensions (Matryoshka); of the model that there is, where none is named
    #[arg(long, value_name = "N")]
    pub(crate) dims: Option<usize>,
    /// The space whose model changes [default: default]
    #[arg(long, value_name = "NAME")]
    pub(crate) space: Option<String>,
    /// Keep the old vectors in a space of this name, `previous` where none is given
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "previous")]
    pub(crate) keep_old: Option<String>,
    /// Split all text again; does nothing where no setting changes, unless --force
    #[arg(long)]
    pub(crate) rechunk: bool,
    /// Tokens of a chunk
    #[arg(long, value_name = "N")]
    pub(crate) chunk_tokens: Option<usize>,
    /// Tokens that neighbouring chunks share
    #[arg(long, value_name = "N")]
    pub(crate) chunk_overlap: Option<usize>,
    /// How text is split
    #[arg(long, value_parser = by_name::<ChunkerKind>, value_name = "auto|plain|markdown")]
    pub(crate) chunker: Option<ChunkerKind>,
    /// Only say what would happen, and how many passages there would be
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Drop what an unfinished run did
    #[arg(
        long,
        conflicts_with_all = [
            "model", "dims", "space", "keep_old", "rechunk", "chunk_tokens", "chunk_overlap", "chunker", "dry_run", "force"
        ]
    )]
    pub(crate) abort: bool,
    /// Do it even where nothing changes; vectors of chunks that come out the same are kept
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct Get {
    /// Ids of documents
    #[arg(required = true, value_name = "ID", allow_negative_numbers = true)]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Args)]
#[command(after_help = FILTERS_HELP)]
pub(crate) struct Delete {
    /// Ids of documents; or say which with --filter
    #[arg(
        required_unless_present = "filter",
        conflicts_with = "filter",
        value_name = "ID",
        allow_negative_numbers = true
    )]
    pub(crate) ids: Vec<String>,
    /// All documents that match
    #[arg(long, value_name = "EXPR")]
    pub(crate) filter: Option<Filter>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Args)]
pub(crate) struct Collections {
    #[command(subcommand)]
    pub(crate) verb: Option<CollectionsVerb>,
}

#[derive(Subcommand)]
pub(crate) enum CollectionsVerb {
    /// All collections; the default
    List,
    /// Make a collection with settings of its own
    Create(CreateCollection),
    /// Print the whole stored configuration
    Show {
        /// The collection
        name: String,
    },
    /// Drop a collection with all it holds
    Drop {
        /// The collection
        name: String,
    },
    /// Give a collection another name
    Rename {
        /// Its name
        from: String,
        /// Its new name
        to: String,
    },
    /// Have another name lead to a collection, or switch it to this one at once
    Alias {
        /// The other name
        alias: String,
        /// The collection
        target: String,
    },
    /// Remove an alias; its collection stays
    Unalias {
        /// The alias
        alias: String,
    },
}

#[derive(Args)]
#[command(after_help = SPACES_HELP)]
pub(crate) struct CreateCollection {
    /// Letters, digits, `.`, `_` and `-`
    pub(crate) name: String,
    /// `builtin`, a directory, owner/name of the hub, http://host/v1#name, or `external` where every document brings its
    /// vector
    #[arg(long, default_value = "builtin", value_name = "M")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) backend: BackendOption,
    /// Dimensions; needed with `--model external`. Fewer than the model's keep the first ones (Matryoshka)
    #[arg(long, value_name = "N")]
    pub(crate) dims: Option<usize>,
    /// How vectors are compared [default: the model's]
    #[arg(long, value_parser = by_name::<Metric>, value_name = "cosine|dot|l2")]
    pub(crate) metric: Option<Metric>,
    /// A further vector space beside the default one; may be given more than once
    #[arg(long = "space", value_name = "NAME=M|external:DIMS[:METRIC]")]
    pub(crate) spaces: Vec<NamedSpace>,
    /// Tokens of a chunk [default: 256, or the model's limit]
    #[arg(long, value_name = "N")]
    pub(crate) chunk_tokens: Option<usize>,
    /// Tokens that neighbouring chunks share [default: 32]
    #[arg(long, value_name = "N")]
    pub(crate) chunk_overlap: Option<usize>,
    /// How text is split [default: auto]
    #[arg(long, value_parser = by_name::<ChunkerKind>, value_name = "auto|plain|markdown|code:LANGUAGE")]
    pub(crate) chunker: Option<ChunkerKind>,
    /// The language whose words are stemmed: english, german, french, ..., or none [default: english]
    #[arg(long, value_parser = by_name::<Language>, value_name = "LANGUAGE")]
    pub(crate) language: Option<Language>,
}

#[derive(Args)]
#[command(
    after_help = "Output: one {\"embedding\": [...]} a line, in the order of the lines, with and without --json or --jsonl."
)]
pub(crate) struct Embed {
    /// `builtin`, a directory, a graph of it (`DIR/onnx/model_int8.onnx`), owner/name of the hub, or http://host/v1#name
    #[arg(long, default_value = "builtin", value_name = "M")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) backend: BackendOption,
    /// The lines are queries, not passages
    #[arg(long)]
    pub(crate) query: bool,
    /// Embed these pictures (PNG, JPEG, WebP, GIF) in place of lines; `-` reads their paths from stdin, one a line
    #[arg(long = "image", num_args = 1.., value_name = "FILE", conflicts_with = "query")]
    pub(crate) images: Vec<PathBuf>,
    /// Keep only the first N dimensions (Matryoshka)
    #[arg(long, value_name = "N")]
    pub(crate) dims: Option<usize>,
    /// Embed the texts of a table instead: a file of Parquet or Arrow, or `-` for a stream of Arrow on stdin
    #[arg(long = "in", value_name = "FILE|-", requires = "out")]
    pub(crate) input: Option<PathBuf>,
    /// Write a table with all columns and the vectors: .parquet, .arrow, .feather, `-` for a stream of Arrow on stdout; .npy
    /// takes the vectors alone. Without --in, of the lines on stdin
    #[arg(long, value_name = "FILE|-")]
    pub(crate) out: Option<PathBuf>,
    /// Which column is the text [default: `text`, or the only one of strings]
    #[arg(long, value_name = "text=COLUMN", requires = "input")]
    pub(crate) map: Option<String>,
    /// The name of the column of vectors
    #[arg(long, value_name = "NAME", default_value = "embedding")]
    pub(crate) column: String,
    /// Streams are Arrow IPC; saying so does no harm
    #[arg(long, value_name = "arrow", value_parser = ["arrow"], requires = "out")]
    pub(crate) format: Option<String>,
    /// Replace the file where it is there
    #[arg(long, requires = "out")]
    pub(crate) overwrite: bool,
}

#[derive(Args)]
#[command(after_help = EXPORT_HELP)]
pub(crate) struct Export {
    /// The file: .parquet, .arrow, .feather, .csv, .tsv, .jsonl, .jsonl.gz or .jsonl.zst; `-` writes to stdout
    #[arg(value_name = "FILE|-")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
    /// A row for each passage, with its place in its document, instead of one for each document
    #[arg(long)]
    pub(crate) chunks: bool,
    /// With the vectors that models made, so that nothing is embedded when it is imported again
    #[arg(long)]
    pub(crate) vectors: bool,
    /// Only documents that match, as in "year >= 2020 AND lang IN ('en', 'de')", or JSON
    #[arg(long, value_name = "EXPR")]
    pub(crate) filter: Option<Filter>,
    /// Only the vectors of this space
    #[arg(long, value_name = "NAME")]
    pub(crate) space: Option<String>,
    /// The format, where the name does not tell; on stdout jsonl unless told
    #[arg(long, value_enum, value_name = "parquet|arrow|jsonl|csv|tsv", hide_possible_values = true)]
    pub(crate) format: Option<FormatName>,
    /// Replace the file where it is there
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    Parquet,
    Arrow,
    Jsonl,
    Csv,
    Tsv,
}

#[derive(Args)]
#[command(
    after_help = "Output: one {\"index\", \"score\", \"logit\"} a line, best first, with --json and --jsonl alike; a table on a terminal."
)]
pub(crate) struct RerankLines {
    /// What the lines should answer; several words need no quotes
    #[arg(required = true, value_name = "QUERY")]
    pub(crate) query: Vec<String>,
    /// A cross-encoder's directory
    #[arg(long, value_name = "M")]
    pub(crate) model: String,
}

#[derive(Args)]
pub(crate) struct Models {
    #[command(subcommand)]
    pub(crate) verb: Option<ModelsVerb>,
}

#[derive(Subcommand)]
pub(crate) enum ModelsVerb {
    /// The built-in model, those in the cache, and well-known ones; the default
    List,
    /// Print a model's whole specification, and where each field comes from
    Show {
        /// `builtin`, a model's directory, or one of the hub
        #[arg(value_name = "M")]
        model: String,
        #[command(flatten)]
        backend: BackendOption,
        /// Load it, warm it up, and print how long that took, its memory, and how fast it is
        #[arg(long)]
        load: bool,
    },
    /// Fetch a model from the hub into the cache that Python's tools share; what is there is compared and kept
    Pull(Pull),
    /// Compare a model's files with the digests that the hub gave for them
    Verify {
        /// A model in the cache (owner/name or owner/name@revision), or a directory
        #[arg(value_name = "M")]
        model: String,
    },
    /// Remove a model from the cache, or one revision of it
    Remove {
        /// owner/name or owner/name@revision
        #[arg(value_name = "ID")]
        model: String,
    },
    /// Make a static model, such as the built-in one, from an encoder
    Distill(Distill),
}

#[derive(Args)]
#[command(after_help = PULL_HELP)]
pub(crate) struct Pull {
    /// owner/name, owner/name@revision, or a short name of `quiver models list`
    #[arg(value_name = "ID")]
    pub(crate) model: String,
    /// The ONNX export in place of the safetensors
    #[arg(long, conflicts_with = "files")]
    pub(crate) onnx: bool,
    /// This file in place of the weights; may be given more than once. JSON and the vocabulary come with it
    #[arg(long = "file", value_name = "NAME")]
    pub(crate) files: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Distill {
    /// The encoder's directory
    #[arg(value_name = "DIR")]
    pub(crate) encoder: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Texts to learn from: JSONL of {"text", "source"?}; `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: PathBuf,
    /// Dimensions of the new model
    #[arg(long, default_value_t = DistillOptions::default().dims, value_name = "N")]
    pub(crate) dims: usize,
    /// Sentences, phrases and short passages that the encoder reads
    #[arg(long, default_value_t = DistillOptions::default().sentences_max, value_name = "N")]
    pub(crate) sentences: usize,
    /// Passes over them
    #[arg(long, default_value_t = DistillOptions::default().epochs, value_name = "N")]
    pub(crate) epochs: usize,
    /// Sentences of a training step
    #[arg(long, default_value_t = DistillOptions::default().batch, value_name = "N")]
    pub(crate) batch: usize,
    /// The learning rate of Adam
    #[arg(long, default_value_t = DistillOptions::default().learning_rate, value_name = "X")]
    pub(crate) learning_rate: f32,
    /// The same seed makes the same model
    #[arg(long, default_value_t = DistillOptions::default().seed, value_name = "N")]
    pub(crate) seed: u64,
    /// Keep the encoder's vectors here, so that a second run or one after Ctrl-C need not make them again
    #[arg(long, value_name = "FILE")]
    pub(crate) cache: Option<PathBuf>,
    /// The new model's name [default: the name of the file]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// What the new model calls its encoder [default: the directory's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) teacher: Option<String>,
    /// The encoder's licence, which the new model states
    #[arg(long, default_value = "that of the teacher", value_name = "LICENCE")]
    pub(crate) licence: String,
}

#[derive(Args)]
pub(crate) struct Eval {
    /// JSONL of {"_id", "text"}
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: PathBuf,
    /// Which documents answer which query: query-id, document-id, grade; or TREC's four columns
    #[arg(long, value_name = "FILE")]
    pub(crate) qrels: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) ranking: Ranking,
    /// Compare dense, text, hybrid by score and hybrid by reciprocal rank
    #[arg(long, conflicts_with_all = ["mode", "fusion"])]
    pub(crate) compare: bool,
}

#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) verb: BenchVerb,
}

#[derive(Subcommand)]
pub(crate) enum BenchVerb {
    /// How many texts a second does a model embed?
    Embed(BenchEmbed),
    /// How long does a search take, in each mode?
    Search(BenchSearch),
    /// How fast and how good is the approximate index, alone?
    Ann(BenchAnn),
    /// What does a filter cost, and does search still find the nearest of those that match? With --db, as `open`
    Filter(BenchFilter),
    /// How long is it to the first answer, in how much memory? With --db, the collection is made there and kept
    Open(BenchOpen),
    /// What `open` starts in a fresh process
    #[command(hide = true)]
    OpenOnce(BenchOpenOnce),
    /// How fast do texts or ready vectors get in, and what does a search meanwhile feel of it?
    Ingest(BenchIngest),
    /// How many queries a second do several threads get answered, run together and each by itself?
    Threads(BenchThreads),
}

/// Vectors to search and vectors to ask.
#[derive(Args)]
pub(crate) struct VectorFiles {
    /// The vectors to search: .npy or .fvecs
    #[arg(long, value_name = "FILE")]
    pub(crate) base: PathBuf,
    /// The vectors to ask: .npy or .fvecs
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: PathBuf,
    /// How vectors are compared
    #[arg(long, value_parser = by_name::<Metric>, default_value = "cosine", value_name = "cosine|dot|l2")]
    pub(crate) metric: Metric,
}

#[derive(Args)]
pub(crate) struct BenchAnn {
    #[command(flatten)]
    pub(crate) files: VectorFiles,
    /// The true nearest, row numbers of the base: .ivecs or .npy [default: found by comparing all]
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
    /// Threads that build; one asks [default: all cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// The candidates that walks keep, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "16,32,64,128,256", value_name = "LIST")]
    pub(crate) ef: Vec<usize>,
    /// Passes over the queries, of which the fastest counts
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) rounds: usize,
}

#[derive(Args)]
pub(crate) struct BenchFilter {
    #[command(flatten)]
    pub(crate) files: VectorFiles,
}

#[derive(Args)]
pub(crate) struct BenchOpen {
    #[command(flatten)]
    pub(crate) files: VectorFiles,
}

#[derive(Args)]
pub(crate) struct BenchOpenOnce {
    /// The vectors to ask: .npy or .fvecs
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: PathBuf,
}

#[derive(Args)]
pub(crate) struct BenchIngest {
    /// The vectors to add: .npy or .fvecs. The last 200 are added one by one, and ask
    #[arg(long, value_name = "FILE", required_unless_present = "texts")]
    pub(crate) base: Option<PathBuf>,
    /// JSONL of {"text"}: without --base they are embedded and added; with it, one goes with each vector [default:
    /// sentences of 20 words, made up]
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: Option<PathBuf>,
    /// What embeds the texts: `builtin`, a directory, owner/name of the hub, or http://host/v1#name
    #[arg(long, default_value = "builtin", value_name = "M", conflicts_with = "base")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) backend: BackendOption,
    /// How vectors are compared
    #[arg(long, value_parser = by_name::<Metric>, default_value = "cosine", value_name = "cosine|dot|l2")]
    pub(crate) metric: Metric,
}

#[derive(Args)]
pub(crate) struct BenchEmbed {
    /// `builtin`, a directory, owner/name of the hub, or http://host/v1#name
    #[arg(long, default_value = "builtin", value_name = "M")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) backend: BackendOption,
    /// JSONL of {"text"}; without it, passages of each of `--tokens` are made up
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: Option<PathBuf>,
    /// Lengths of made-up passages, special tokens counted
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [32, 110, 256],
        value_parser = passage_tokens,
        value_name = "N,...",
        conflicts_with = "texts"
    )]
    pub(crate) tokens: Vec<usize>,
    /// Stop after so many seconds, for each length
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    pub(crate) seconds: f64,
}

#[derive(Args)]
pub(crate) struct BenchThreads {
    /// `builtin`, a directory, owner/name of the hub, or http://host/v1#name
    #[arg(long, default_value = "builtin", value_name = "M")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) backend: BackendOption,
    /// Threads that ask, each one query after the other
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    pub(crate) threads: u16,
    /// Words of a query
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    pub(crate) words: u16,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5.0, value_name = "S")]
    pub(crate) seconds: f64,
    /// Documents to search, made up, of 100 words
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub(crate) documents: usize,
    /// How long a run waits for callers that were there before
    #[arg(long, default_value_t = 2.0, value_name = "MS")]
    pub(crate) wait_ms: f64,
}

#[derive(Args)]
pub(crate) struct BenchSearch {
    /// `builtin`, a directory, owner/name of the hub, or http://host/v1#name
    #[arg(long, default_value = "builtin", value_name = "M")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) backend: BackendOption,
    /// JSONL documents; without them, passages of 100 words are made up
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: Option<PathBuf>,
    /// Documents at most
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub(crate) documents: usize,
    /// Queries in each mode
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub(crate) queries: usize,
    /// The seed of the words
    #[arg(long, default_value_t = 7, value_name = "N")]
    pub(crate) seed: u64,
}

/// A vector as people write it: a JSON array, or an object that holds it as `embedding`, which `quiver embed` prints.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Vector(pub(crate) Vec<f32>);

impl FromStr for Vector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON array: {error}"))?;
        if let Some(embedding) = value.get_mut("embedding") {
            value = embedding.take();
        }
        serde_json::from_value(value).map(Self).map_err(|error| format!("no array of numbers: {error}"))
    }
}

/// A further space of a new collection.
#[derive(Clone)]
pub(crate) struct NamedSpace {
    pub(crate) name: String,
    pub(crate) config: SpaceConfig,
}

impl FromStr for NamedSpace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, source) = text
            .split_once('=')
            .filter(|(name, source)| !name.is_empty() && !source.is_empty())
            .ok_or("a space is a name, `=`, and a model or `external:DIMS`, as in `image=external:512`")?;
        Ok(Self { name: name.into(), config: space_config(source)? })
    }
}

fn space_config(source: &str) -> Result<SpaceConfig, String> {
    let mut parts = source.split(':');
    if parts.next() != Some("external") {
        return Ok(SpaceConfig::model(source));
    }
    let dims = parts.next().ok_or("external vectors have no model to say their dimensions; write `external:DIMS`")?;
    let dims = dims.parse().map_err(|_| format!("`{dims}` is no number of dimensions, as in `external:512`"))?;
    let config = SpaceConfig::external(dims);
    match (parts.next(), parts.next()) {
        (None, _) => Ok(config),
        (Some(metric), None) => Ok(config.metric(by_name(metric)?)),
        (Some(_), Some(more)) => Err(format!("nothing stands after the metric; got `:{more}`")),
    }
}

/// A length with room for special tokens and at least a word.
fn passage_tokens(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(tokens @ 8..=8192) => Ok(tokens),
        _ => Err("a number from 8 to 8192 is needed".into()),
    }
}

/// Reads a name as serde does, so that flags and JSON know the same ones.
fn by_name<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(name)).map_err(|error| error.to_string())
}

#[derive(Args)]
#[command(after_help = IMPORT_HELP)]
pub(crate) struct Import {
    /// Files of rows
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
    /// The model of a new collection; that of an existing one must be the same. [default: builtin, or none where the rows
    /// bring vectors]
    #[arg(long, value_name = "M")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) backend: BackendOption,
    /// Which column is what: id=doc_id,text=body,title=...,vector=emb,vectors.SPACE=...,metadata=...,
    /// expires_at=...; `title=` takes none
    #[arg(long, value_name = "ROLE=COLUMN,...")]
    pub(crate) map: Vec<String>,
    /// Write rows that are no documents to this file, one {"source", "row", "column", "value", "reason"} a line
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) rejects: Option<PathBuf>,
    /// Stop once more rows of a file than this are rejected
    #[arg(long, value_name = "N")]
    pub(crate) max_rejects: Option<u64>,
    /// Read files again that are imported already
    #[arg(long)]
    pub(crate) again: bool,
    /// The first line of CSV is a row; columns are called column1, column2, ...
    #[arg(long)]
    pub(crate) no_header: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Verb {
        match Arguments::try_parse_from(line.split(' ')) {
            Ok(arguments) => arguments.verb,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn distilling_has_the_defaults_of_the_library() {
        let Verb::Models(Models { verb: Some(ModelsVerb::Distill(given)) }) =
            parsed("quiver models distill teacher --out model --texts texts.jsonl")
        else {
            panic!("no `models distill`")
        };
        let defaults = DistillOptions::default();
        assert_eq!((given.dims, given.sentences), (defaults.dims, defaults.sentences_max));
        assert_eq!((given.epochs, given.batch, given.seed), (defaults.epochs, defaults.batch, defaults.seed));
        assert_eq!(given.learning_rate, defaults.learning_rate);
    }

    #[test]
    fn a_vector_is_an_array_or_what_embed_prints() {
        let read = |text: &str| text.parse::<Vector>().map(|vector| vector.0);
        assert_eq!(read("[1, -2.5, 3e-1]"), Ok(vec![1.0, -2.5, 0.3]));
        assert_eq!(read(r#"{"embedding": [0.5]}"#), Ok(vec![0.5]));
        for bad in ["", "1 2", "0.5", "[1, \"2\"]", "[null]", r#"{"vector": [1]}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_space_is_a_name_and_where_its_vectors_come_from() {
        let made = |text: &str| text.parse::<NamedSpace>().map(|space| space.name);
        for good in ["a=builtin", "a=models/x:y", "a=external:2", "a=external:4096:dot", "a=path=with=signs"] {
            assert_eq!(made(good).as_deref(), Ok("a"), "{good}");
        }
        for bad in ["a", "=builtin", "a=", "a=external", "a=external:many", "a=external:2:far", "a=external:2:l2:x"] {
            assert!(made(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_backend_goes_before_the_name_of_a_model_once() {
        let onnx = BackendOption { backend: Some(Backend::Onnx) };
        let named = |name: &str| onnx.model(name).map_err(|mistake| mistake.to_string());
        assert_eq!(named("models/minilm"), Ok("onnx:models/minilm".into()));
        assert_eq!(named("onnx:models/minilm"), Ok("onnx:models/minilm".into()));
        assert!(
            named("candle:models/minilm").is_err_and(|message| message.contains("names candle, and --backend onnx"))
        );
        assert!(named("builtin").is_err_and(|message| message.contains("`builtin` is none")));
        let unset = BackendOption { backend: None };
        assert!(unset.model("builtin").is_ok_and(|name| name == "builtin"));
    }

    #[test]
    fn options_without_effect_are_refused() {
        let refused = |options: &str| {
            let Verb::Search(search) = parsed(&format!("quiver search {options} dough")) else { panic!("no search") };
            search.ranking.check().err().map(|mistake| mistake.to_string())
        };
        for (options, words) in [
            ("--mode dense --fusion score", ["--fusion", "--mode dense"]),
            ("--mode text --weight 2", ["--weight", "--mode text"]),
            ("--fusion rank --weight 2", ["--fusion rank", "--weight 2"]),
            ("--mode text --space code", ["--space code", "--mode text"]),
        ] {
            let message = refused(options).unwrap_or_default();
            assert!(words.iter().all(|word| message.contains(word)), "{options}: {message}");
        }
        for options in ["--mode dense", "--fusion rank", "--mode hybrid --fusion score --weight 2", "--weight 2"] {
            assert_eq!(refused(options), None, "{options}");
        }
    }
}
