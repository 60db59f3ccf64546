//! Which collection does this other name mean?
//!
//! An alias leads to a collection's number, so it follows where the collection is renamed, and switching it is one row of one
//! transaction. Invariants: no alias has the name of a collection, and each leads to a collection that is; so a name means
//! one collection or none.

use redb::{ReadTransaction, ReadableTable, TableHandle, WriteTransaction};

use crate::codec::{self, Number, Place};
use crate::error::engine;
use crate::ids::validate_collection_name;
use crate::tables::{ALIASES, COLLECTION_NAMES};
use crate::{Error, Result, rows};

/// A change of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AliasEdit {
    /// Has a name lead to a collection, whether it led to another one before or is new.
    Set {
        /// The alias.
        alias: String,
        /// A collection, or an alias of it.
        target: String,
    },
    /// Removes an alias; the collection stays.
    Remove {
        /// The alias.
        alias: String,
    },
}

impl AliasEdit {
    /// Has a name lead to a collection.
    pub fn set(alias: impl Into<String>, target: impl Into<String>) -> Self {
        Self::Set { alias: alias.into(), target: target.into() }
    }

    /// Removes an alias.
    pub fn remove(alias: impl Into<String>) -> Self {
        Self::Remove { alias: alias.into() }
    }
}

/// The number that a name means: a collection's own, or that of an alias.
pub(crate) fn resolve(transaction: &ReadTransaction, name: &str) -> Result<Option<u32>> {
    let names = rows::open(transaction, COLLECTION_NAMES)?;
    if let Some(Number(number)) = rows::get_named(&names, COLLECTION_NAMES, name)? {
        return Ok(Some(number));
    }
    let Some(aliases) = rows::open_if_made(transaction, ALIASES)? else { return Ok(None) };
    Ok(rows::get_named(&aliases, ALIASES, name)?.map(|Number(number)| number))
}

/// All aliases, by name, each with the number that it leads to.
pub(crate) fn list(transaction: &ReadTransaction) -> Result<Vec<(String, u32)>> {
    let Some(table) = rows::open_if_made(transaction, ALIASES)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for row in table.iter().map_err(engine)? {
        let (name, value) = row.map_err(engine)?;
        let Number(number) = codec::decode(Place::new(ALIASES.name(), name.value()), value.value())?;
        found.push((name.value().to_owned(), number));
    }
    Ok(found)
}

/// Applies changes in their order, so that a later one sees an earlier one. Returns whether anything is to be written.
///
/// # Errors
/// [`Error::InvalidInput`] for a name that cannot be, that is a collection's, or that is no alias;
/// [`Error::UnknownCollection`] for a target that is not there.
pub(crate) fn apply(transaction: &WriteTransaction, edits: &[AliasEdit]) -> Result<bool> {
    let names = transaction.open_table(COLLECTION_NAMES).map_err(engine)?;
    let mut aliases = transaction.open_table(ALIASES).map_err(engine)?;
    let mut changed = false;
    for edit in edits {
        match edit {
            AliasEdit::Set { alias, target } => {
                validate_collection_name(alias)?;
                if rows::get_named::<Number>(&names, COLLECTION_NAMES, alias)?.is_some() {
                    return Err(Error::invalid(format!(
                        "`{alias}` is the name of a collection, so it cannot be an alias; rename the collection first, or \
                         choose another alias"
                    )));
                }
                let number = match rows::get_named(&names, COLLECTION_NAMES, target)? {
                    Some(number) => Some(number),
                    None => rows::get_named(&aliases, ALIASES, target)?,
                };
                let number: Number = number.ok_or_else(|| Error::UnknownCollection(target.clone()))?;
                changed |= rows::get_named(&aliases, ALIASES, alias)? != Some(number);
                rows::put_named(&mut aliases, ALIASES, alias, &number)?;
            }
            AliasEdit::Remove { alias } => {
                if aliases.remove(alias.as_str()).map_err(engine)?.is_none() {
                    return Err(Error::invalid(format!(
                        "there is no alias `{}`; `collections` lists those there are",
                        alias.escape_debug()
                    )));
                }
                changed = true;
            }
        }
    }
    Ok(changed)
}

/// Refuses a name for a collection that is an alias.
///
/// # Errors
/// [`Error::InvalidInput`] naming it.
pub(crate) fn refuse_taken(transaction: &WriteTransaction, name: &str) -> Result<()> {
    let aliases = transaction.open_table(ALIASES).map_err(engine)?;
    match rows::get_named::<Number>(&aliases, ALIASES, name)? {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!(
            "`{name}` is an alias, so no collection can be named so; remove the alias first, or choose another name"
        ))),
    }
}

/// Lets the aliases of a collection lead to another one, which takes its place.
///
/// # Errors
/// Whatever redb says.
pub(crate) fn move_to(transaction: &WriteTransaction, from: u32, to: u32) -> Result<()> {
    let mut aliases = transaction.open_table(ALIASES).map_err(engine)?;
    let mut leading = Vec::new();
    for row in aliases.iter().map_err(engine)? {
        let (alias, value) = row.map_err(engine)?;
        let found: Number = codec::decode(Place::new(ALIASES.name(), alias.value()), value.value())?;
        if found == Number(from) {
            leading.push(alias.value().to_owned());
        }
    }
    leading.iter().try_for_each(|alias| rows::put_named(&mut aliases, ALIASES, alias, &Number(to)))
}

/// Refuses to drop what aliases lead to.
///
/// # Errors
/// [`Error::InvalidInput`] naming them.
pub(crate) fn refuse_used(transaction: &WriteTransaction, name: &str, number: u32) -> Result<()> {
    let aliases = transaction.open_table(ALIASES).map_err(engine)?;
    let mut leading = Vec::new();
    for row in aliases.iter().map_err(engine)? {
        let (alias, value) = row.map_err(engine)?;
        let found: Number = codec::decode(Place::new(ALIASES.name(), alias.value()), value.value())?;
        if found == Number(number) {
            leading.push(format!("`{}`", alias.value()));
        }
    }
    if leading.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "collection `{name}` is what the alias {} leads to; switch that to another collection, or remove it, first",
        leading.join(" and ")
    )))
}

/// The error for a name that should be a collection's own.
pub(crate) fn not_a_collection(transaction: &WriteTransaction, name: &str) -> Result<Error> {
    let aliases = transaction.open_table(ALIASES).map_err(engine)?;
    Ok(match rows::get_named::<Number>(&aliases, ALIASES, name)? {
        None => Error::UnknownCollection(name.to_owned()),
        Some(_) => Error::invalid(format!(
            "`{name}` is an alias and no collection; name the collection itself, or remove the alias"
        )),
    })
}
