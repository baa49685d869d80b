//! Sentences that say the same of several: said once, with whom they are about, and with the range of their numbers.

/// `said`, each by the name of whom it is about, in the order in which each was first said. Two that differ in nothing but
/// numbers, and their units, are one. `listed` makes a list of names.
pub(crate) fn folded(said: Vec<(String, String)>, listed: impl Fn(&[String]) -> String) -> Vec<String> {
    let mut groups: Vec<(Vec<String>, Sentence)> = Vec::new();
    for (name, text) in said {
        let sentence = Sentence::of(&text);
        match groups.iter_mut().find(|(_, other)| other.words == sentence.words) {
            Some((names, other)) => {
                if names.last() != Some(&name) {
                    names.push(name);
                }
                other.widen(sentence);
            }
            None => groups.push((vec![name], sentence)),
        }
    }
    groups.into_iter().map(|(names, sentence)| format!("{}: {}", listed(&names), sentence.text())).collect()
}

/// `one`, `one and two`, `one, two and three`; of very many the first, and how many more there are.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        many if many.len() > NAMES_SHOWN => {
            format!("{} and {} more", many[..NAMES_SHOWN - 1].join(", "), many.len() - NAMES_SHOWN + 1)
        }
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A sentence, taken apart into what stands between its numbers, and those.
struct Sentence {
    words: Vec<String>,
    numbers: Vec<[Number; 2]>,
}

/// A number as it is written, with its unit.
#[derive(Clone)]
struct Number {
    text: String,
    value: f64,
    unit: &'static str,
}

impl Sentence {
    fn of(text: &str) -> Sentence {
        let (mut words, mut numbers, mut rest) = (vec![String::new()], Vec::new(), text);
        // Which runs a part's own sentence is about is no figure.
        let is_of_runs = text.starts_with("run") || text.starts_with("all ");
        if let (true, Some((whose, what))) = (is_of_runs, text.split_once(": ")) {
            words[0] = format!("{whose}: ");
            rest = what;
        }
        while let Some(next) = rest.chars().next() {
            let is_within_word = words.last().is_some_and(|it| it.ends_with(|last: char| last.is_alphanumeric()));
            match Number::at_start(rest).filter(|_| !is_within_word) {
                Some(number) => {
                    rest = &rest[number.text.len() + number.unit.len()..];
                    numbers.push([number.clone(), number]);
                    words.push(String::new());
                }
                None => {
                    words.last_mut().expect("there is one from the beginning").push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        Sentence { words, numbers }
    }

    /// Takes in the numbers of `other`, which has the same words.
    fn widen(&mut self, other: Sentence) {
        for ([least, most], [number, _]) in self.numbers.iter_mut().zip(other.numbers) {
            if number.value < least.value {
                *least = number;
            } else if number.value > most.value {
                *most = number;
            }
        }
    }

    fn text(&self) -> String {
        let numbers =
            self.numbers.iter().map(|[least, most]| match (least.value == most.value, least.unit == most.unit) {
                (true, _) => format!("{}{}", least.text, least.unit),
                (false, true) => format!("{} to {}{}", least.text, most.text, most.unit),
                (false, false) => format!("{}{} to {}{}", least.text, least.unit, most.text, most.unit),
            });
        self.words.iter().cloned().zip(numbers.chain([String::new()])).map(|(words, number)| words + &number).collect()
    }
}

impl Number {
    /// The number that `text` begins with.
    fn at_start(text: &str) -> Option<Number> {
        let is_inside = |c: char| c.is_ascii_digit() || c == ',' || c == '.';
        let number = text[..text.find(|c| !is_inside(c)).unwrap_or(text.len())].trim_end_matches([',', '.']);
        let behind = &text[number.len()..];
        let has_ended = |unit: &&&str| !behind[unit.len()..].starts_with(|next: char| next.is_ascii_alphanumeric());
        let unit = UNITS.iter().filter(|unit| behind.starts_with(**unit)).find(has_ended);
        let (unit, scale) = unit.map_or(("", 1.0), |unit| (*unit, scale(unit)));
        let value = number.replace(',', "").parse::<f64>().ok()?;
        Some(Number { text: number.to_owned(), value: value * scale, unit })
    }
}

/// Units of time, which are told apart by how many nanoseconds they have.
const UNITS: [&str; 4] = [" ns", " us", " ms", " s"];

fn scale(unit: &str) -> f64 {
    match unit {
        " us" => 1e3,
        " ms" => 1e6,
        " s" => 1e9,
        _ => 1.0,
    }
}

/// Names that a list has at most.
const NAMES_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(sentences: &[(&str, &str)]) -> Vec<String> {
        let sentences = sentences.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        folded(sentences.collect(), list)
    }

    #[test]
    fn what_is_said_of_several_is_said_once() {
        let all = said(&[("a", "it was late"), ("a", "it was slow"), ("b", "it was slow"), ("c", "it was slow")]);
        assert_eq!(all, ["a: it was late", "a, b and c: it was slow"]);
    }

    #[test]
    fn numbers_become_a_range_and_units_their_own() {
        let busy = |part: &str| format!("busy for {part} % of the time (try p99 of 2.5 s)");
        let [one, two, three] = ["83", "9", "83"].map(busy);
        assert_eq!(
            said(&[("a", &one), ("b", &two), ("c", &three)]),
            ["a, b and c: busy for 9 to 83 % of the time (try p99 of 2.5 s)"]
        );
        assert_eq!(
            said(&[("a", "still for 1.50 s, it"), ("b", "still for 980 ms, it")]),
            ["a and b: still for 980 ms to 1.50 s, it"]
        );
        assert_eq!(said(&[("a", "1,200/s of 9/s"), ("b", "1,100/s of 9/s")]), ["a and b: 1,100 to 1,200/s of 9/s"]);
        assert_eq!(said(&[("a", "5 more"), ("b", "5 fewer")]).len(), 2);
    }

    #[test]
    fn runs_of_parts_are_no_numbers_and_lists_have_an_end() {
        assert_eq!(said(&[("a", "runs 1 and 2: 5 % busy"), ("b", "runs 1 and 3: 5 % busy")]).len(), 2);
        assert_eq!(said(&[("a", "run 2: 5 % busy"), ("b", "run 2: 6 % busy")]), ["a and b: run 2: 5 to 6 % busy"]);
        let names: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
        assert_eq!(list(&names), "1, 2, 3, 4, 5, 6, 7 and 13 more");
        assert_eq!(list(&names[..8]), "1, 2, 3, 4, 5, 6, 7 and 8");
    }
}
