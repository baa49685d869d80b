//! What to say to somebody whose command line is another tool's: which one it is here. No clock, no socket.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Error};

use crate::args::Args;
use crate::shell;
use crate::target::Target;

/// A tip for the command line `arguments`, in which clap found `error`: what to type instead. `None` where clap's own words are
/// better.
pub(crate) fn tip(error: &Error, arguments: &[String]) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument) {
        return None;
    }
    let strange = of(error, ContextKind::InvalidArg).or_else(|| of(error, ContextKind::InvalidSubcommand))?;
    let target = arguments.iter().find(|word| word.parse::<Target>().is_ok())?;
    let commands: Vec<String> = Args::command().get_subcommands().map(|it| it.get_name().to_owned()).collect();
    let Some(command) = arguments.iter().find(|word| commands.contains(word)) else {
        // Where nothing else is wrong with it, it is told as it was typed, for another tool.
        let is_word = !strange.starts_with('-') && strange != *target;
        let rest: Vec<String> = arguments.iter().filter(|word| !is_word || **word != strange).cloned().collect();
        let (all, no_command) =
            (shell::typed(&rest), if is_word { format!("'{strange}' is no command; ") } else { String::new() });
        return Some(format!("tip: {no_command}to measure it: `loadgen rr {all}`, or `loadgen open {all} -R 1k`"));
    };
    let rest = arguments.iter().skip_while(|word| *word != &strange && !word.starts_with(&format!("{strange}=")));
    let value = rest.clone().next().and_then(|word| word.split_once('=')).map(|(_, value)| value.to_owned());
    let value = value.or_else(|| rest.clone().nth(1).cloned()).unwrap_or_default();
    of_option(&strange, &value, target, command)
}

/// The same for an option that `command` does not have, and its `value`.
fn of_option(option: &str, value: &str, target: &str, command: &str) -> Option<String> {
    let target = shell::typed(&[target.to_owned()]);
    let is_number = value.chars().all(|digit| digit.is_ascii_digit()) && !value.is_empty();
    Some(match option {
        "-m" | "-P" | "--streams" if is_number => {
            format!("tip: requests at once on each connection: `loadgen rr {target} --pipeline {value}`")
        }
        "-H" | "--header" | "--headers" | "-m" | "--method" | "-X" | "--request" | "-b" | "--body" | "--data"
        | "-a" | "--auth" | "-u" | "--user" | "--cookie" | "-A" | "--user-agent" => GET_ONLY.to_owned(),
        "-R" | "--rate" | "-r" | "--qps" | "--rps" if command != "open" => {
            let rate = if is_number { value } else { "1k" };
            format!(
                "tip: {command} is without a rate; an open loop has one: `loadgen open {target} -R {rate}`, and connections that come and go: \
                 `loadgen churn {target} -R {rate}`"
            )
        }
        "-n" | "--requests" | "--num-requests" | "--number" => {
            format!("tip: a run lasts for a time, not for a number of requests: `loadgen {command} {target} -d 10s`")
        }
        "--http2" | "--h2" | "--http3" => "tip: of HTTP, loadgen speaks version 1.1".to_owned(),
        _ => return None,
    })
}

/// What `error` says of one thing, as one word.
fn of(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(word) => Some(word.split([' ', '=']).next().unwrap_or_default().to_owned()),
        _ => None,
    }
}

/// What clap would propose, and is none of it.
pub(crate) const PROPOSALS: [ContextKind; 4] = [
    ContextKind::Suggested,
    ContextKind::SuggestedArg,
    ContextKind::SuggestedSubcommand,
    ContextKind::SuggestedCommand,
];

const GET_ONLY: &str = "tip: http:// targets are asked for GET of a path, and nothing else. Any other request can be sent as it \
                        stands, where the end of its reply is known:\n  loadgen rr 127.0.0.1:80 --send 'POST /path \
                        HTTP/1.1\\r\\nHost: h\\r\\nContent-Length: 2\\r\\n\\r\\nhi' --expect 'HTTP/1.1 200 *\\r\\n\\r\\n'";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn told(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        tip(&Args::try_parse_from(&words).unwrap_err(), &words[1..])
    }

    #[test]
    fn what_other_tools_have_leads_to_what_it_is_here() {
        for (line, wanted) in [
            ("loadgen http://h/", "to measure it: `loadgen rr http://h/`, or `loadgen open http://h/ -R 1k`"),
            (
                "loadgen bench http://h/ -c 5",
                "tip: 'bench' is no command; to measure it: `loadgen rr http://h/ -c 5`, or",
            ),
            ("loadgen -t2 -c100 --latency http://h/", "`loadgen rr -t2 -c100 --latency http://h/`"),
            ("loadgen rr http://h/ -H Header:x", "asked for GET of a path, and nothing else"),
            ("loadgen rr http://h/ -m POST", "--send 'POST /path HTTP/1.1\\r\\nHost: h\\r\\n"),
            ("loadgen rr http://h/ --data=x", "asked for GET"),
            ("loadgen rr http://h/ -m 16", "`loadgen rr http://h/ --pipeline 16`"),
            ("loadgen rr http://h/ --rate 50", "`loadgen open http://h/ -R 50`"),
            ("loadgen rr http://h/ --rate=50", "`loadgen open http://h/ -R 50`"),
            ("loadgen hold h:1 -R 2k", "`loadgen open h:1 -R 1k`"),
            ("loadgen open h:1 -R 5 -n 100", "`loadgen open h:1 -d 10s`"),
            ("loadgen rr http://h/ --http2", "speaks version 1.1"),
        ] {
            let said = told(line).unwrap_or_else(|| panic!("nothing for {line}"));
            assert!(said.contains(wanted), "{line}: {said}");
        }
        for line in
            ["loadgen rr http://h/ --no-such", "loadgen fly", "loadgen rr http://h/ -c 0", "loadgen churn h:1 -R x"]
        {
            assert_eq!(told(line), None, "{line}");
        }
    }
}
