//! The fuzz bodies on mutated fixtures, from a fixed seed and for a fixed number of rounds: it must
//! never fail on one machine only.

#[path = "../../fuzz/src/bodies.rs"]
#[expect(unreachable_pub, reason = "the fuzz crate exports them")]
mod bodies;

use streamgate::wire::dialect::DIALECTS;

const ROUNDS: usize = 4000;

/// A small generator of its own (xorshift64*), so that a seed means the same for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).expect("31 bits") % end.max(1)
    }
}

const WORDS: &[&str] = &[
    "\n\n",
    "\r",
    "\r\n",
    "data: ",
    "event: error\n",
    "null",
    "{}",
    "[]",
    "\"\"",
    "-1",
    "1e999",
    "{\"a\":",
    "\\ud83d",
    "\"index\":9",
    "\"index\":0",
    "\u{feff}",
    "[DONE]",
    "true",
    "18446744073709551616",
    ": ping\n",
];

/// Changes some places of `data`: other bytes, words of the formats, pieces cut out or doubled.
fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        let to = (at + random.below(40)).min(data.len());
        match random.below(5) {
            0 => data.truncate(at),
            1 => drop(data.drain(at..to)),
            2 => {
                let piece = data[at..to].to_vec();
                data.splice(at..at, piece);
            }
            3 => {
                let word = WORDS[random.below(WORDS.len())];
                data.splice(at..to.min(at + 8), word.bytes());
            }
            _ => {
                let byte = u8::try_from(random.below(256)).expect("a byte");
                data.splice(at..(at + 1).min(data.len()), [byte]);
            }
        }
    }
}

/// A name and what is in the file.
type Case = (String, Vec<u8>);

fn drive(seed: u64, cases: fn(&str) -> Vec<Case>, body: fn(&[u8])) {
    let mut corpus = Vec::new();
    for dialect in DIALECTS {
        corpus.extend(cases(dialect.name()));
    }
    let mut random = Random(seed);
    for round in 0..ROUNDS {
        let (_, seed) = &corpus[random.below(corpus.len())];
        let prefix = [random.below(256), random.below(64)];
        let mut data: Vec<u8> =
            prefix.iter().map(|byte| u8::try_from(*byte).expect("a byte")).collect();
        let mut tail = seed.clone();
        if round >= corpus.len() {
            mutate(&mut tail, &mut random);
        }
        data.extend(tail);
        body(&data);
    }
}

fn requests(dialect: &str) -> Vec<Case> {
    crate::golden::cases(dialect, ".request.json")
}

#[test]
fn framing() {
    drive(0x5EED_0001, crate::golden::streams, bodies::framing);
}

#[test]
fn json_edit() {
    drive(0x5EED_0002, requests, |data| bodies::json_edit(&data[1..]));
}

#[test]
fn decode() {
    drive(0x5EED_0003, crate::golden::streams, bodies::decode);
}

#[test]
fn viewer() {
    drive(0x5EED_0005, crate::golden::streams, bodies::viewer);
}

#[test]
fn request() {
    drive(0x5EED_0004, requests, |data| bodies::request(&data[1..]));
}

/// Texts that open streams, or look as if they did.
fn credentials(_: &str) -> Vec<Case> {
    let texts = [
        "",
        "k3v9XbQ0aZ71_0000000042",
        "k3v9XbQ0aZ71_18446744073709551615",
        "k3v9XbQ0aZ71_0000000042.PRpLaaaaaaaa_0000000001",
        "s1.r.100.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "s1.c.18446744073709551615.",
        "....",
        "streamgate",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ];
    texts.iter().map(|text| ((*text).to_owned(), text.as_bytes().to_vec())).collect()
}

#[test]
fn position() {
    drive(0x5EED_0006, credentials, |data| bodies::position(&data[2..]));
}

#[test]
fn capability() {
    drive(0x5EED_0007, credentials, bodies::capability);
}

#[test]
fn ticket() {
    drive(0x5EED_0008, credentials, bodies::ticket);
}
