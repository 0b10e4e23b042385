//! How the agent of a pod fares, by the pod's status: it delivers everything that the pod was promised, or nothing.

use std::fmt::{self, Display, Formatter};

use kustody_api::names::AGENT_CONTAINER;
use serde::Serialize;
use serde_json::Value;

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Agent {
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    /// Everything was delivered.
    Delivered,
    /// It runs and has not delivered yet.
    Waiting,
    /// It gave up, and may be started again.
    Failed,
    /// It was not started yet.
    NotStarted,
}

impl Agent {
    /// Of a pod as the API server has it; `None` when the pod has no agent.
    pub(crate) fn of(pod: &Value) -> Option<Self> {
        let is_it = |container: &&Value| container["name"] == AGENT_CONTAINER;
        pod["spec"]["initContainers"].as_array()?.iter().find(is_it)?;
        let found = pod["status"]["initContainerStatuses"].as_array().and_then(|all| all.iter().find(is_it));
        let Some(status) = found else { return Some(Self { state: State::NotStarted, message: None }) };
        let ended = |state: &str| status[state].get("terminated").filter(|ended| ended.is_object());
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let (state, message) = match ended("state").or_else(|| ended("lastState")) {
            // A native sidecar has delivered when it counts as started.
            _ if status["state"].get("running").is_some_and(Value::is_object) => {
                let is_sidecar =
                    pod["spec"]["initContainers"].as_array().into_iter().flatten().any(|c| is_it(&c) && c["restartPolicy"] == "Always");
                (if is_sidecar && status["started"] == true { State::Delivered } else { State::Waiting }, None)
            }
            Some(ended) if ended["exitCode"] == 0 => (State::Delivered, None),
            Some(ended) => (State::Failed, text(&ended["message"])),
            None => (State::NotStarted, text(&status["state"]["waiting"]["reason"])),
        };
        Some(Self { state, message })
    }

    /// Whether the pod was given everything that it was promised.
    pub(crate) fn has_delivered(&self) -> bool {
        self.state == State::Delivered
    }
}

impl Display for Agent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Delivered => "delivered: everything that was promised was given",
            State::Waiting => "waiting for the broker; kubectl logs POD -c kustody-agent says why",
            State::Failed => "failed, nothing was given",
            State::NotStarted => "not started yet",
        })?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Agent, State};

    fn of(container: &Value, status: &Value) -> Option<Agent> {
        Agent::of(&json!({"spec": {"initContainers": [container]}, "status": {"initContainerStatuses": [status]}}))
    }

    #[test]
    fn an_agent_has_delivered_when_it_ended_well_or_serves_on_as_a_sidecar() {
        let agent = json!({"name": "kustody-agent"});
        let sidecar = json!({"name": "kustody-agent", "restartPolicy": "Always"});
        let running = json!({"name": "kustody-agent", "started": true, "state": {"running": {}}});
        for (container, status, expected) in [
            (&agent, json!({"name": "kustody-agent", "state": {"terminated": {"exitCode": 0}}}), State::Delivered),
            (&agent, running.clone(), State::Waiting),
            (&sidecar, running, State::Delivered),
            (&sidecar, json!({"name": "kustody-agent", "started": false, "state": {"running": {}}}), State::Waiting),
            (&agent, json!({"name": "kustody-agent", "state": {"waiting": {"reason": "PodInitializing"}}}), State::NotStarted),
            (&agent, json!({"name": "other"}), State::NotStarted),
        ] {
            assert_eq!(of(container, &status).unwrap().state, expected, "{status}");
        }
    }

    #[test]
    fn an_agent_that_failed_tells_its_last_message_also_while_it_waits_to_start_again() {
        let agent = json!({"name": "kustody-agent"});
        let ended = json!({"terminated": {"exitCode": 1, "message": "the broker refused (NotGranted)"}});
        for status in [
            json!({"name": "kustody-agent", "state": ended}),
            json!({"name": "kustody-agent", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}),
        ] {
            let found = of(&agent, &status).unwrap();
            assert_eq!(found.state, State::Failed);
            assert!(found.to_string().contains("NotGranted"), "{found}");
        }
    }

    #[test]
    fn a_pod_without_an_agent_has_none() {
        assert_eq!(of(&json!({"name": "other"}), &json!({})), None);
        assert_eq!(Agent::of(&json!({})), None);
    }
}
