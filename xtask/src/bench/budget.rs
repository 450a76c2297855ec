//! `./x bench --check`: what was measured beside what it may cost.
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What one figure may be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    /// Above this something has regressed.
    budget: f64,
    /// What the design wants.
    bar: Option<f64>,
}

/// The figures of each table that has budgets.
pub(super) type Budgets = BTreeMap<String, BTreeMap<String, Budget>>;

/// What was measured, by name.
pub(super) type Figures = BTreeMap<String, f64>;

/// Reads a budget file.
///
/// # Errors
/// Where it is none.
pub(super) fn parse(text: &str) -> Result<Budgets> {
    toml::from_str(text).context("the budgets cannot be read")
}

/// Prints the figures of one table beside their budgets; the names of those that are above.
///
/// # Errors
/// When a figure that has a budget was not measured.
pub(super) fn compare(table: &str, budgets: &BTreeMap<String, Budget>, figures: &Figures) -> Result<Vec<String>> {
    let mut regressed = Vec::new();
    println!("{table:<34} {:>10} {:>10} {:>10}", "measured", "budget", "bar");
    for (name, budget) in budgets {
        let figure = *figures.get(name).with_context(|| format!("`{name}` of {table} was not measured"))?;
        let bar = budget.bar.map_or("-".into(), |bar| format!("{bar:.0}"));
        println!("{name:<34} {figure:>10.0} {:>10.0} {bar:>10}  {}", budget.budget, budget.verdict(figure));
        if figure > budget.budget {
            regressed.push(format!("{name}: {figure:.0}, its budget is {:.0}", budget.budget));
        }
    }
    Ok(regressed)
}

/// Nothing, or what regressed as an error.
///
/// # Errors
/// When something did.
pub(super) fn judge(regressed: &[String]) -> Result<()> {
    if !regressed.is_empty() {
        bail!("above their budgets (xtask/budgets.toml): {}", regressed.join("; "));
    }
    Ok(())
}

impl Budget {
    fn verdict(&self, figure: f64) -> String {
        match self.bar {
            _ if figure > self.budget => "REGRESSED".into(),
            Some(bar) if figure > bar => format!("bar missed by {:.0} %", 100.0 * (figure / bar - 1.0)),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets() -> BTreeMap<String, Budget> {
        parse("[t]\nhvc = { budget = 90, bar = 80 }\nread = { budget = 10 }").unwrap().remove("t").unwrap()
    }

    fn figures(hvc: f64, read: f64) -> Figures {
        Figures::from([("hvc".into(), hvc), ("read".into(), read)])
    }

    #[test]
    fn a_figure_above_its_budget_is_told_and_fails() {
        let regressed = compare("t", &budgets(), &figures(91.0, 10.0)).unwrap();
        assert_eq!(regressed, ["hvc: 91, its budget is 90"]);
        assert!(judge(&regressed).is_err());
    }

    #[test]
    fn a_missed_bar_within_the_budget_does_not_fail() {
        assert_eq!(compare("t", &budgets(), &figures(88.0, 0.0)).unwrap(), Vec::<String>::new());
        assert_eq!(budgets()["hvc"].verdict(88.0), "bar missed by 10 %");
        assert!(judge(&[]).is_ok());
    }

    #[test]
    fn a_figure_that_was_not_measured_fails() {
        assert!(compare("t", &budgets(), &Figures::new()).is_err());
    }

    #[test]
    fn the_budgets_of_the_tree_can_be_read() {
        let budgets = parse(include_str!("../../budgets.toml")).unwrap();
        assert_eq!(budgets.keys().collect::<Vec<_>>(), ["loads", "primitives", "sizes"]);
        assert!(parse("[t]\nx = { limit = 3 }").is_err());
    }
}
