//! The operator: production's own, one that leads without an election. Killed, another one takes its place.

use std::sync::Arc;

use mobula_apiserver::Connection;
use mobula_operator::config::{Config, GangMode};
use mobula_operator::operator::{Operator, Surroundings};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Process, World};
use crate::measure;
use crate::network::{self, Death};
use crate::scenario::GangAdmission;

/// An operator that runs.
pub(super) struct OperatorProcess {
    /// How it can be made to die.
    pub death: Death,
    connection: Connection,
    pub task: JoinHandle<()>,
    /// Kept, so that it is not told to stop.
    _stop: watch::Sender<bool>,
}

impl World {
    pub(super) fn start_operator(&mut self) {
        self.operators += 1;
        let number = self.operators;
        let chance = self.chance("network", &format!("operator {number}"));
        let death = Death::of(Process::Operator(number), self.inbox.clone());
        let faults = network::faults(&self.scenario.network, self.outage.clone(), death.clone(), chance);
        let connection = self.server.connect().with_faults(faults);
        let mut config = Config::default();
        config.process.leader_election = false;
        config.process.qps = 0.0;
        config.gangs.mode = match self.scenario.operator.gang_admission {
            GangAdmission::Off => GangMode::Off,
            GangAdmission::Annotated => GangMode::Annotated,
            GangAdmission::All => GangMode::All,
        };
        config.autoscaler.wide_role = self.scenario.sidecar.wide_role;
        let (stop, stopped) = watch::channel(false);
        let mut tokens = self.chance("tokens", &number.to_string());
        let mut token = [0; 32];
        token.chunks_mut(8).for_each(|part| part.copy_from_slice(&tokens.draw().to_le_bytes()));
        let clock = self.wall.clone();
        let surroundings = Surroundings {
            client: connection.client("default"),
            lease: None,
            clock: Arc::new(move || clock.unix_ms()),
            random: Arc::new(move || token),
            identity: format!("operator-{number}"),
            lease_namespace: "kube-system".to_owned(),
            instance: String::new(),
        };
        let operator = Operator::new(config, surroundings);
        let task = tokio::spawn(async move {
            let ended = operator.run(stopped).await;
            tracing::warn!(?ended, "the operator has ended");
        });
        self.operator = Some(OperatorProcess { death, connection, task, _stop: stop });
    }

    /// Ends the operator as if its machine lost power, and counts what it has asked for.
    pub(super) fn kill_operator(&mut self) {
        if let Some(process) = self.operator.take() {
            process.task.abort();
            measure::add(&mut self.measures.operator_requests, &process.connection.counts());
        }
    }

    /// A process is killed, if it is still the one that was meant, and replaced.
    pub(super) fn kill(&mut self, process: &Process) {
        match process {
            Process::Operator(number) if *number == self.operators => self.restart_operator(),
            Process::Sidecar(cluster, number) if self.sidecar(cluster).is_some_and(|it| it.number == *number) => {
                self.restart_sidecar(cluster);
            }
            _ => {}
        }
    }

    pub(super) fn restart_operator(&mut self) {
        self.log.note(self.clock.now_us(), "operator-dies", &self.operators.to_string(), None);
        self.kill_operator();
        self.start_operator();
    }
}
