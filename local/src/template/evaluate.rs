//! The intrinsic functions and conditions that the template uses.

use super::{TemplateError, Values};
use serde_json::Value;

/// Where the local stand-ins live, as far as names go.
pub const REGION: &str = "us-east-1";
/// The account of every local ARN.
pub const ACCOUNT: &str = "123456789012";
/// The stack's name, which is a part of the functions' names.
pub const STACK: &str = "callboard";

/// A chain of references deeper than this is a loop.
const DEPTH_MAX: usize = 32;

pub(super) struct Evaluator<'a> {
    document: &'a Value,
    values: &'a dyn Values,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(document: &'a Value, values: &'a dyn Values) -> Self {
        Self { document, values }
    }

    /// A value as text; `None` for an absent value and for `AWS::NoValue`.
    pub(super) fn text(&self, value: &Value, at: &str) -> Result<Option<String>, TemplateError> {
        Ok(match self.value(value, at, 0)? {
            Value::Null => None,
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(claim) => Some(claim.to_string()),
            other => return Err(TemplateError::at(at, format!("a text is expected, not {other}"))),
        })
    }

    /// A value as a whole number; `None` for an absent value and for `AWS::NoValue`.
    pub(super) fn number(&self, value: &Value, at: &str) -> Result<Option<u64>, TemplateError> {
        self.text(value, at)?
            .map(|text| {
                text.parse()
                    .map_err(|_| TemplateError::at(at, format!("a whole number is expected, not {text:?}")))
            })
            .transpose()
    }

    /// Evaluates; `Null` stands for `AWS::NoValue`.
    fn value(&self, value: &Value, at: &str, depth: usize) -> Result<Value, TemplateError> {
        if depth > DEPTH_MAX {
            return Err(TemplateError::at(at, "the references run in a circle"));
        }
        let Some((name, argument)) = intrinsic(value) else { return Ok(value.clone()) };
        let deeper = |value: &Value| self.value(value, at, depth + 1);
        match name {
            "Ref" => self.reference(argument.as_str().unwrap_or_default(), at),
            "Fn::GetAtt" => {
                let (resource, attribute) = match argument {
                    Value::Array(parts) => (
                        parts.first().and_then(Value::as_str).unwrap_or_default(),
                        parts.get(1).and_then(Value::as_str).unwrap_or_default(),
                    ),
                    _ => argument.as_str().unwrap_or_default().split_once('.').unwrap_or_default(),
                };
                self.attribute(resource, attribute, at)
            }
            "Fn::Sub" => self.substitute(argument.as_str().unwrap_or_default(), at).map(Value::String),
            "Fn::Join" => {
                let separator = argument[0].as_str().unwrap_or_default();
                let parts = deeper(&argument[1])?;
                let parts = match &parts {
                    Value::Array(parts) => {
                        parts.iter().map(|part| self.text(part, at)).collect::<Result<Vec<_>, _>>()?
                    }
                    // A list parameter is its text here.
                    single => vec![single.as_str().map(str::to_owned)],
                };
                Ok(Value::String(parts.into_iter().flatten().collect::<Vec<_>>().join(separator)))
            }
            "Fn::If" => {
                let condition = argument[0].as_str().unwrap_or_default();
                let branch = if self.condition_named(condition, at, depth + 1)? { 1 } else { 2 };
                deeper(&argument[branch])
            }
            "Fn::FindInMap" => {
                let mut found = &self.document["Mappings"];
                for key in argument.as_array().map(Vec::as_slice).unwrap_or_default() {
                    let key = self.text(key, at)?.unwrap_or_default();
                    found = found
                        .get(&key)
                        .ok_or_else(|| TemplateError::at(at, format!("the mapping has no {key:?}")))?;
                }
                Ok(found.clone())
            }
            other => Err(TemplateError::at(at, format!("{other} is not known here"))),
        }
    }

    fn reference(&self, name: &str, at: &str) -> Result<Value, TemplateError> {
        Ok(match name {
            "AWS::NoValue" => Value::Null,
            "AWS::Region" => REGION.into(),
            "AWS::AccountId" => ACCOUNT.into(),
            "AWS::Partition" => "aws".into(),
            "AWS::StackName" => STACK.into(),
            _ => {
                let declared = &self.document["Parameters"][name];
                if declared.is_null() {
                    return self.attribute(name, "Ref", at);
                }
                match (self.values.parameter(name), &declared["Default"]) {
                    (Some(value), _) => Value::String(value),
                    (None, Value::Null) => {
                        return Err(TemplateError::at(at, format!("the parameter {name} has no value")));
                    }
                    (None, default) => default.clone(),
                }
            }
        })
    }

    fn attribute(&self, resource: &str, attribute: &str, at: &str) -> Result<Value, TemplateError> {
        self.values.attribute(resource, attribute).map(Value::String).ok_or_else(|| {
            TemplateError::at(at, format!("{resource} has no {attribute} here: is it in the template?"))
        })
    }

    fn substitute(&self, text: &str, at: &str) -> Result<String, TemplateError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let (name, after) =
                after.split_once('}').ok_or_else(|| TemplateError::at(at, "an open ${ in Fn::Sub"))?;
            let value = match name.split_once('.') {
                Some((resource, attribute)) => self.attribute(resource, attribute, at)?,
                None => self.reference(name, at)?,
            };
            out.push_str(&self.text(&value, at)?.unwrap_or_default());
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn condition_named(&self, name: &str, at: &str, depth: usize) -> Result<bool, TemplateError> {
        let condition = &self.document["Conditions"][name];
        if condition.is_null() {
            return Err(TemplateError::at(at, format!("there is no condition {name}")));
        }
        self.condition(condition, at, depth)
    }

    fn condition(&self, condition: &Value, at: &str, depth: usize) -> Result<bool, TemplateError> {
        if depth > DEPTH_MAX {
            return Err(TemplateError::at(at, "the conditions run in a circle"));
        }
        let Some((name, argument)) = intrinsic(condition) else {
            return Err(TemplateError::at(at, format!("{condition} is not a condition")));
        };
        let parts = argument.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut each = parts.iter().map(|part| self.condition(part, at, depth + 1));
        match name {
            "Condition" => self.condition_named(argument.as_str().unwrap_or_default(), at, depth + 1),
            "Fn::Not" => each.next().unwrap_or(Ok(false)).map(|claim| !claim),
            "Fn::And" => each.try_fold(true, |all, claim| claim.map(|claim| all && claim)),
            "Fn::Or" => each.try_fold(false, |any, claim| claim.map(|claim| any || claim)),
            "Fn::Equals" => Ok(self.text(&argument[0], at)? == self.text(&argument[1], at)?),
            other => Err(TemplateError::at(at, format!("{other} is not a condition that is known here"))),
        }
    }
}

/// `{"Ref": …}`, `{"Fn::…": …}` and `{"Condition": …}`: an object with exactly that member.
fn intrinsic(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    let (name, argument) = object.iter().next()?;
    (name == "Ref" || name == "Condition" || name.starts_with("Fn::")).then_some((name.as_str(), argument))
}
