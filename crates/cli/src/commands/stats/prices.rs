//! What calls of models cost: a table as data, and the owner's own in front of it.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use stockade_event::stats::ModelUse;

use crate::human::safe;

/// The table that comes with the program.
const BUILTIN: &str = include_str!("prices.toml");
/// Bytes of a table of the owner's that are read.
const TABLE_BYTES_MAX: u64 = 1 << 20;
/// The highest price of a million tokens, in US dollars.
const PRICE_MAX: f64 = 1_000_000.0;

/// A table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    as_of: Option<String>,
    #[serde(default)]
    price: Vec<Price>,
}

/// What a million tokens of one model cost, in US dollars.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    model: String,
    input: f64,
    output: f64,
    cached: Option<f64>,
    cache_written: Option<f64>,
}

/// The prices that count, the owner's first.
#[derive(Debug)]
pub(super) struct Prices {
    prices: Vec<Price>,
    /// What the table that comes with the program says of its age.
    pub(super) as_of: String,
}

impl Prices {
    /// Reads the tables; `own` is the owner's.
    ///
    /// # Errors
    /// When the owner's cannot be read or says something else than prices, with what was expected.
    pub(super) fn load(own: Option<&Path>) -> anyhow::Result<Self> {
        let mut prices = Vec::new();
        if let Some(path) = own {
            prices = read(path)?;
        }
        let builtin = parsed(BUILTIN).context("the table of the program")?;
        prices.extend(builtin.price);
        Ok(Self {
            prices,
            as_of: builtin.as_of.unwrap_or_default(),
        })
    }

    /// Returns what calls of a model cost, in millionths of a US dollar; `None` if its price is not known.
    pub(super) fn cost(&self, model: &str, used: &ModelUse) -> Option<u64> {
        let price = self.prices.iter().find(|price| price.is_of(model))?;
        let plain = used
            .input
            .saturating_sub(used.cached.saturating_add(used.cache_written));
        let parts = [
            (plain, price.input),
            (used.cached, price.cached.unwrap_or(price.input)),
            (
                used.cache_written,
                price.cache_written.unwrap_or(price.input),
            ),
            (used.output, price.output),
        ];
        let total = parts.into_iter().map(|(tokens, price)| {
            // A dollar for a million tokens is a millionth of a dollar for one.
            u128::from(tokens) * u128::from(trillionths(price))
        });
        let total: u128 = total.fold(0, u128::saturating_add);
        Some(u64::try_from(total / 1_000_000).unwrap_or(u64::MAX))
    }
}

impl Price {
    /// Tells whether the price is for a model: its name, perhaps with what routes it in front and a date
    /// behind it.
    fn is_of(&self, model: &str) -> bool {
        let model = model.rsplit('/').next().unwrap_or(model);
        let model = model
            .rsplit_once("anthropic.")
            .map_or(model, |(_, name)| name);
        model.strip_prefix(self.model.as_str()).is_some_and(is_date)
    }

    fn problem(&self) -> Option<String> {
        let all = [
            Some(self.input),
            Some(self.output),
            self.cached,
            self.cache_written,
        ];
        let is_wrong = |price: &f64| !(0.0..=PRICE_MAX).contains(price);
        let wrong = all.into_iter().flatten().find(is_wrong);
        if self.model.is_empty() {
            return Some("an entry has no `model`".to_owned());
        }
        wrong.map(|price| {
            format!(
                "`{}` costs {price}; expected US dollars for a million tokens, from 0 to {PRICE_MAX}",
                safe(&self.model)
            )
        })
    }
}

/// Tells whether a text is nothing, or the date, `latest` or the revision of a model.
fn is_date(rest: &str) -> bool {
    let rest = rest.split_once("-v").map_or(rest, |(front, version)| {
        let is_version = version
            .chars()
            .all(|one| one.is_ascii_digit() || one == ':');
        if is_version && !version.is_empty() {
            front
        } else {
            rest
        }
    });
    let Some(word) = rest.strip_prefix(['-', '@']) else {
        return rest.is_empty();
    };
    let digits = word.replace('-', "");
    let is_digits = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_digit());
    word == "latest" || (is_digits && matches!(word.len(), 8 | 10))
}

/// Returns a price of a million tokens as trillionths of a dollar for one.
fn trillionths(price: f64) -> u64 {
    // It is at most `PRICE_MAX`, so its digits are few; what is not a number is no price.
    format!("{:.0}", price * 1_000_000.0).parse().unwrap_or(0)
}

fn parsed(text: &str) -> anyhow::Result<Table> {
    let table: Table = toml::from_str(text)?;
    if let Some(problem) = table.price.iter().find_map(Price::problem) {
        bail!("{problem}");
    }
    Ok(table)
}

fn read(path: &Path) -> anyhow::Result<Vec<Price>> {
    let shown = safe(&path.to_string_lossy());
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("cannot read `{shown}`"))?;
    if !file.metadata().is_ok_and(|there| there.is_file()) {
        bail!("`{shown}` is not a plain file");
    }
    file.take(TABLE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read `{shown}`"))?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > TABLE_BYTES_MAX) {
        bail!("`{shown}` has more than {TABLE_BYTES_MAX} bytes");
    }
    let table = parsed(&text).map_err(|error| {
        anyhow::anyhow!(
            "`{shown}` is no table of prices: {}",
            safe(&format!("{error:#}"))
        )
    })?;
    Ok(table.price)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stockade_event::stats::ModelUse;

    use super::{BUILTIN, Prices, is_date, parsed};

    const USED: ModelUse = ModelUse {
        calls: 1,
        failed: 0,
        unsaid: 0,
        input: 3_000_000,
        cached: 1_000_000,
        cache_written: 1_000_000,
        output: 1_000_000,
    };

    #[test]
    fn each_sort_of_token_has_its_price() {
        let prices = Prices::load(None).unwrap();
        // 3 + 0.3 + 3.75 + 15 dollars.
        let cost = prices.cost("claude-sonnet-4-5-20250929", &USED);
        assert_eq!(cost, Some(22_050_000));
        // No price of its own for what is put into a cache: 1.25 + 0.125 + 1.25 + 10.
        assert_eq!(prices.cost("gpt-5", &USED), Some(12_625_000));
        let most = ModelUse {
            output: u64::MAX,
            ..USED
        };
        assert_eq!(prices.cost("gpt-5", &most), Some(u64::MAX));
    }

    #[test]
    fn a_model_that_is_not_known_has_no_price() {
        let prices = Prices::load(None).unwrap();
        for (model, is_known) in [
            ("claude-opus-4", true),
            ("claude-opus-4-20250514", true),
            ("us.anthropic.claude-opus-4-20250514-v1:0", true),
            ("anthropic/claude-opus-4-1@20250805", true),
            ("gpt-5-2025-08-07", true),
            // A newer one costs what its maker says.
            ("claude-opus-4-9", false),
            ("gpt-5-ultra", false),
            ("gpt-50", false),
            ("lab-1", false),
            ("", false),
        ] {
            let cost = prices.cost(model, &USED);
            assert_eq!(cost.is_some(), is_known, "{model}");
        }
        assert!(is_date("-latest") && !is_date("-1") && !is_date("-2025080"));
    }

    #[test]
    fn the_owner_s_prices_come_first_and_wrong_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prices.toml");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Prices::load(Some(&file))
        };
        let own = load("[[price]]\nmodel = \"gpt-5\"\ninput = 0\noutput = 1\n").unwrap();
        assert_eq!(own.cost("gpt-5", &USED), Some(1_000_000));
        assert!(own.cost("gpt-4o", &USED).is_some());
        for (text, expected) in [
            ("price = 7", "invalid type"),
            (
                "[[price]]\nmodel = \"x\"\ninput = 1\n",
                "missing field `output`",
            ),
            (
                "[[price]]\nmodel = \"x\"\ninput = -1\noutput = 1\n",
                "expected US dollars",
            ),
            (
                "[[price]]\nmodel = \"x\"\ninput = nan\noutput = 1\n",
                "expected US dollars",
            ),
            (
                "[[price]]\nmodel = \"\"\ninput = 1\noutput = 1\n",
                "no `model`",
            ),
            ("[[prices]]\n", "unknown field `prices`"),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Prices::load(Some(Path::new("/nonexistent"))).is_err());
        assert!(Prices::load(Some(dir.path())).is_err());
    }

    #[test]
    fn the_table_of_the_program_names_each_model_once() {
        let table = parsed(BUILTIN).unwrap();
        let mut names: Vec<_> = table.price.iter().map(|price| &price.model).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(table.as_of.is_some());
    }
}
