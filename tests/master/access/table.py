"""What each RPC lets whom do. An RPC of the master without a row here fails the test.

A row says who may, and a request that is about something of the owner's. What `$name` stands for is
made anew for the row (see `things`), so a row may end or remove it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from grpc import StatusCode

from tests.master.access.callers import Caller
from tests.master.access.things import EXPERIMENT

_KNOWN: Final = frozenset(Caller) - {
    *(Caller.NOBODY, Caller.UNKNOWN, Caller.LOGGED_OUT, Caller.REVOKED),
    *(Caller.DEACTIVATED, Caller.ENDED),
}
_OTHERS: Final = frozenset({Caller.STRANGER, Caller.STRANGERS_TASK})
_OWN_TASKS: Final = frozenset({Caller.SIBLING, Caller.OTHER_TRIAL})
_TASKS: Final = frozenset({Caller.STRANGERS_TASK, Caller.SELF, *_OWN_TASKS})


class Right(StrEnum):
    """Who may."""

    OPEN = "everybody, without any token"
    USER = "every active user and his tasks"
    PERSON = "every active user, but no task"
    OWNER = "the owner, his tasks, and administrators"
    OWNER_IN_PERSON = "the owner and administrators, but no task"
    RUN = "the owner, administrators, and of tasks only the very run"
    LATE_RUN = "as RUN, and the run even after its end"
    TRIAL = "as OWNER, but no task of another trial"
    ADMIN = "administrators"

    @property
    def callers(self) -> frozenset[Caller]:
        """Who may, one by one."""
        return _MAY[self]


_MAY: Final = {
    Right.OPEN: frozenset(Caller),
    Right.USER: _KNOWN,
    Right.PERSON: _KNOWN - _TASKS,
    Right.OWNER: _KNOWN - _OTHERS,
    Right.OWNER_IN_PERSON: _KNOWN - _OTHERS - _TASKS,
    Right.RUN: _KNOWN - _OTHERS - _OWN_TASKS,
    Right.LATE_RUN: _KNOWN - _OTHERS - _OWN_TASKS,
    Right.TRIAL: _KNOWN - _OTHERS - {Caller.OTHER_TRIAL},
    Right.ADMIN: frozenset({Caller.ADMIN}),
}


@dataclass(frozen=True)
class Row:
    """One RPC."""

    right: Right
    request: dict[str, Any]
    answer: StatusCode = StatusCode.OK
    """What those get who may: another code where the thing is in no state for it."""


def _row(right: Right, /, _answer: StatusCode = StatusCode.OK, **request: Any) -> Row:
    return Row(right, request, _answer)


_ABSENT: Final = StatusCode.NOT_FOUND
_WRONG: Final = StatusCode.INVALID_ARGUMENT
_STATE: Final = StatusCode.FAILED_PRECONDITION
_UNABLE: Final = StatusCode.UNIMPLEMENTED
_UUID: Final = "12345678-1234-4234-9234-123456789abc"
_OPEN, _USER, _PERSON, _ADMIN = Right.OPEN, Right.USER, Right.PERSON, Right.ADMIN
_OWNER, _OWNER_IN_PERSON = Right.OWNER, Right.OWNER_IN_PERSON
_RUN, _LATE_RUN, _TRIAL = Right.RUN, Right.LATE_RUN, Right.TRIAL

METRICS: Final = {
    "trial_id": "$trial",
    "trial_run_id": 0,
    "steps_completed": 1,
    "metrics": {"avg_metrics": {"loss": 0.5}},
}

TABLE: Final[dict[str, Row]] = {
    # log-in, users and their tokens
    "Login": _row(_OPEN, _WRONG),
    "Logout": _row(_USER, _WRONG),  # what the run itself gets, which has no session
    "CurrentUser": _row(_USER),
    "GetMe": _row(_USER),
    "GetUsers": _row(_USER),
    "GetUser": _row(_USER, user_id="$owner"),
    "GetUserByUsername": _row(_USER, username="admin"),
    "GetUserSetting": _row(_USER),
    "PostUserSetting": _row(_USER, settings=[{"key": "a", "value": "b"}]),
    "ResetUserSetting": _row(_USER),
    "PostUserActivity": _row(
        _USER,
        activity_type="ACTIVITY_TYPE_GET",
        entity_type="ENTITY_TYPE_PROJECT",
        entity_id="$project",
    ),
    "PostUser": _row(_ADMIN, user={"username": "$name"}),
    "SetUserPassword": _row(_OWNER_IN_PERSON, user_id="$owner", password="A-new-Password-1"),
    "PatchUser": _row(_OWNER_IN_PERSON, user_id="$owner", user={"display_name": "x"}),
    "PostAccessToken": _row(_OWNER_IN_PERSON, user_id="$owner"),
    "GetAccessTokens": _row(_OWNER, username="determined"),
    "PatchAccessToken": _row(_OWNER_IN_PERSON, token_id="$token", description="x"),
    # the master
    "GetMaster": _row(_OPEN),
    "GetTelemetry": _row(_OPEN),
    "GetMasterConfig": _row(_ADMIN),
    "PatchMasterConfig": _row(_ADMIN),
    "MasterLogs": _row(_ADMIN, limit=1),
    "CleanupLogs": _row(_ADMIN),
    "GetClusterMessage": _row(_ADMIN),
    "SetClusterMessage": _row(_ADMIN, message="x", start_time="2024-01-01T00:00:00Z"),
    "DeleteClusterMessage": _row(_ADMIN),
    "GetKubernetesResourceManagers": _row(_USER),
    "ResourceAllocationRaw": _row(
        _USER, timestamp_after="2024-01-01T00:00:00Z", timestamp_before="2024-01-02T00:00:00Z"
    ),
    "ResourceAllocationAggregated": _row(
        _USER,
        start_date="2024-01-01",
        end_date="2024-01-02",
        period="RESOURCE_ALLOCATION_AGGREGATION_PERIOD_DAILY",
    ),
    # agents, pools, jobs
    "GetAgents": _row(_USER),
    "GetAgent": _row(_USER, agent_id="agent-a"),
    "GetSlots": _row(_USER, agent_id="agent-a"),
    "GetSlot": _row(_USER, agent_id="agent-a", slot_id="0"),
    "EnableAgent": _row(_ADMIN, agent_id="agent-a"),
    "DisableAgent": _row(_ADMIN, agent_id="agent-a"),
    "EnableSlot": _row(_ADMIN, agent_id="agent-a", slot_id="0"),
    "DisableSlot": _row(_ADMIN, agent_id="agent-a", slot_id="0"),
    "GetResourcePools": _row(_USER),
    "GetJobs": _row(_USER),
    "GetJobsV2": _row(_USER),
    "GetJobQueueStats": _row(_USER),
    "UpdateJobQueue": _row(_OWNER, updates=[{"job_id": "$job", "priority": 50}]),
    # tasks of all kinds
    "GetTask": _row(_USER, task_id="$task"),
    "GetTasks": _row(_USER),
    "GetTaskContextDirectory": _row(_USER, task_id="$task"),
    "GetTaskAcceleratorData": _row(_USER, task_id="$task"),
    "TaskLogs": _row(_USER, task_id="$task"),
    "TaskLogsFields": _row(_USER, task_id="$task"),
    "PostTaskLogs": _row(_LATE_RUN, logs=[{"task_id": "$task", "log": "x"}]),
    "LaunchCommand": _row(_USER, config={"entrypoint": ["true"]}),
    "GetCommands": _row(_USER),
    "GetCommand": _row(_USER, command_id="$command"),
    "SetCommandPriority": _row(_OWNER, command_id="$command", priority=50),
    "KillCommand": _row(_OWNER, command_id="$command"),
    "LaunchShell": _row(_USER),
    "GetShells": _row(_USER),
    "GetShell": _row(_USER, shell_id="$shell"),
    "SetShellPriority": _row(_OWNER, shell_id="$shell", priority=50),
    "KillShell": _row(_OWNER, shell_id="$shell"),
    "LaunchNotebook": _row(_USER, preview=True),
    "GetNotebooks": _row(_USER),
    "GetNotebook": _row(_USER, notebook_id="$notebook"),
    "IdleNotebook": _row(_OWNER, notebook_id="$notebook", idle=False),
    "SetNotebookPriority": _row(_OWNER, notebook_id="$notebook", priority=50),
    "KillNotebook": _row(_OWNER, notebook_id="$notebook"),
    "LaunchTensorboard": _row(_USER, trial_ids=["$trial"]),
    "GetTensorboards": _row(_USER),
    "GetTensorboard": _row(_USER, tensorboard_id="$tensorboard"),
    "SetTensorboardPriority": _row(_OWNER, tensorboard_id="$tensorboard", priority=50),
    "KillTensorboard": _row(_OWNER, tensorboard_id="$tensorboard"),
    "CreateGenericTask": _row(_USER, config="entrypoint: ['true']"),
    "GetGenericTaskConfig": _row(_USER, task_id="$generic"),
    "PauseGenericTask": _row(_OWNER, task_id="$generic"),
    "UnpauseGenericTask": _row(_OWNER, _STATE, task_id="$generic"),
    "KillGenericTask": _row(_OWNER, task_id="$generic"),
    # what the processes of a run tell and ask
    "GetAllocation": _row(_USER, allocation_id="$allocation"),
    "AllocationReady": _row(_RUN, allocation_id="$allocation"),
    "AllocationWaiting": _row(_RUN, allocation_id="$allocation"),
    "AllocationPreemptionSignal": _row(_RUN, allocation_id="$allocation"),
    "AllocationPendingPreemptionSignal": _row(_RUN, allocation_id="$allocation"),
    "AckAllocationPreemptionSignal": _row(_RUN, allocation_id="$allocation"),
    "AllocationAllGather": _row(_RUN, allocation_id="$allocation", request_uuid=_UUID, num_peers=1),
    "AllocationRendezvousInfo": _row(_RUN, _ABSENT, allocation_id="$allocation"),
    "NotifyContainerRunning": _row(_RUN, allocation_id="$allocation", num_peers=1),
    "MarkAllocationResourcesDaemon": _row(_RUN, _ABSENT, allocation_id="$allocation"),
    "PostAllocationProxyAddress": _row(_RUN, allocation_id="$allocation", proxy_address="10.0.0.7"),
    "PostAllocationAcceleratorData": _row(
        _RUN, allocation_id="$allocation", accelerator_data={"container_id": "c"}
    ),
    # templates: common to all
    "GetTemplates": _row(_USER),
    "GetTemplate": _row(_USER, template_name="$template"),
    "PostTemplate": _row(_USER, template={"name": "$name"}),
    "PutTemplate": _row(_USER, template={"name": "$template"}),
    "PatchTemplateConfig": _row(_USER, template_name="$template", config={}),
    "PatchTemplateName": _row(_USER, old_name="$template", new_name="$template"),
    "DeleteTemplate": _row(_USER, template_name="$template"),
    # workspaces, projects, the pools bound to them
    "GetWorkspaces": _row(_USER),
    "GetWorkspace": _row(_USER, id="$workspace"),
    "GetWorkspaceProjects": _row(_USER, id="$workspace"),
    "PostWorkspace": _row(_USER, name="$name"),
    "PatchWorkspace": _row(_OWNER, id="$workspace", workspace={"name": "$name"}),
    "ArchiveWorkspace": _row(_OWNER, id="$workspace"),
    "UnarchiveWorkspace": _row(_OWNER, id="$workspace"),
    "DeleteWorkspace": _row(_OWNER, id="$workspace"),
    "PinWorkspace": _row(_USER, id="$workspace"),
    "UnpinWorkspace": _row(_USER, id="$workspace"),
    "GetProject": _row(_USER, id="$project"),
    "GetProjectByKey": _row(_USER, _ABSENT, key="NOKEY"),
    "GetProjectColumns": _row(_USER, id="$project"),
    "GetProjectNumericMetricsRange": _row(_USER, id="$project"),
    "GetProjectsByUserActivity": _row(_USER),
    "GetMetadataValues": _row(_USER, project_id="$project", key="a"),
    "PostProject": _row(_USER, name="$name", workspace_id="$workspace"),
    "PatchProject": _row(_OWNER, id="$project", project={"name": "$name"}),
    "AddProjectNote": _row(_OWNER, project_id="$project", note={"name": "a"}),
    "PutProjectNotes": _row(_OWNER, project_id="$project", notes=[{"name": "a"}]),
    "MoveProject": _row(_OWNER, project_id="$project", destination_workspace_id="$workspace"),
    "ArchiveProject": _row(_OWNER, id="$project"),
    "UnarchiveProject": _row(_OWNER, id="$project"),
    "DeleteProject": _row(_OWNER, id="$project"),
    "ListRPsBoundToWorkspace": _row(_USER, workspace_id="$workspace"),
    "ListWorkspacesBoundToRP": _row(_USER, resource_pool_name="default"),
    "BindRPToWorkspace": _row(
        _ADMIN, _WRONG, resource_pool_name="default", workspace_ids=["$workspace"]
    ),
    "UnbindRPFromWorkspace": _row(
        _ADMIN, resource_pool_name="default", workspace_ids=["$workspace"]
    ),
    "OverwriteRPWorkspaceBindings": _row(
        _ADMIN, _WRONG, resource_pool_name="default", workspace_ids=["$workspace"]
    ),
    # policies and webhooks
    "GetGlobalConfigPolicies": _row(_USER, workload_type="NTSC"),
    "PutGlobalConfigPolicies": _row(
        _ADMIN, workload_type="NTSC", config_policies="constraints: {priority_limit: 1}"
    ),
    "DeleteGlobalConfigPolicies": _row(_ADMIN, workload_type="NTSC"),
    "GetWorkspaceConfigPolicies": _row(_USER, workspace_id="$workspace", workload_type="NTSC"),
    "PutWorkspaceConfigPolicies": _row(
        _OWNER,
        workspace_id="$workspace",
        workload_type="NTSC",
        config_policies="constraints: {priority_limit: 1}",
    ),
    "DeleteWorkspaceConfigPolicies": _row(_OWNER, workspace_id="$workspace", workload_type="NTSC"),
    "GetWebhooks": _row(_ADMIN),
    "PostWebhook": _row(_ADMIN, _WRONG, webhook={"name": "$name"}),
    "PatchWebhook": _row(_ADMIN, _ABSENT, webhook={"url": "http://127.0.0.1:1/"}),
    "DeleteWebhook": _row(_ADMIN, _ABSENT),
    "TestWebhook": _row(_ADMIN, _ABSENT),
    "PostWebhookEventData": _row(_OWNER, experiment_id="$experiment", data={"title": "x"}),
    # there is no Kubernetes, and there are no roles and groups
    "ListWorkspaceNamespaceBindings": _row(_USER, _WRONG),
    "SetWorkspaceNamespaceBindings": _row(_USER, _WRONG),
    "DeleteWorkspaceNamespaceBindings": _row(_USER, _WRONG),
    "GetWorkspacesWithDefaultNamespaceBindings": _row(_USER, _WRONG),
    "BulkAutoCreateWorkspaceNamespaceBindings": _row(_USER, _WRONG),
    "GetKubernetesResourceQuotas": _row(_USER, _WRONG),
    "SetResourceQuotas": _row(_USER, _WRONG),
    "GetPermissionsSummary": _row(_USER),
    "GetGroups": _row(_USER, _WRONG),
    "GetGroup": _row(_USER, _ABSENT),
    "GetGroupsAndUsersAssignedToWorkspace": _row(_USER, workspace_id="$workspace"),
    "AssignMultipleGroups": _row(_USER, _UNABLE),
    "GetRolesByID": _row(_USER),
    "GetRolesAssignedToUser": _row(_USER, user_id="$owner"),
    "GetRolesAssignedToGroup": _row(_USER, _ABSENT),
    "ListRoles": _row(_USER),
    "SearchRolesAssignableToScope": _row(_USER),
    # experiments
    "PreviewHPSearch": _row(_USER, config=EXPERIMENT, seed=1),
    "CreateExperiment": _row(
        _USER, config="$experiment_config", project_id="$project", unmanaged=True
    ),
    "PutExperiment": _row(
        _OWNER,
        external_experiment_id="$external_experiment",
        create_experiment_request={"config": "$experiment_config", "unmanaged": True},
    ),
    "GetExperiments": _row(_USER),
    "DeleteTensorboardFiles": _row(_USER, _ABSENT),  # where one is there, it waits for a task
    "GetExperiment": _row(_USER, experiment_id="$experiment"),
    "GetExperimentLabels": _row(_USER),
    "GetExperimentTrials": _row(_USER, experiment_id="$experiment"),
    "GetExperimentCheckpoints": _row(_USER, id="$experiment"),
    "GetExperimentValidationHistory": _row(_USER, experiment_id="$experiment"),
    "GetBestSearcherValidationMetric": _row(_USER, _ABSENT, experiment_id="$experiment"),
    "GetModelDef": _row(_USER, experiment_id="$experiment"),
    "GetModelDefTree": _row(_USER, experiment_id="$experiment"),
    "GetModelDefFile": _row(_USER, _ABSENT, experiment_id="$experiment", path="a"),
    "SearchExperiments": _row(_USER),
    "SearchRuns": _row(_USER),
    "ExpMetricNames": _row(_USER, ids=["$experiment"]),
    "MetricBatches": _row(_USER, experiment_id="$experiment", metric_name="a", group="validation"),
    "TrialsSnapshot": _row(
        _USER,
        experiment_id="$experiment",
        metric_name="a",
        group="validation",
        batches_processed=1,
    ),
    "TrialsSample": _row(
        _USER,
        experiment_id="$experiment",
        metric_name="a",
        group="validation",
        max_trials=1,
        max_datapoints=10,
    ),
    "PatchExperiment": _row(_OWNER, experiment={"id": "$experiment", "name": "b"}),
    "ActivateExperiment": _row(_OWNER, id="$managed"),
    "PauseExperiment": _row(_OWNER, id="$managed"),
    "CancelExperiment": _row(_OWNER, id="$managed"),
    "KillExperiment": _row(_OWNER, id="$managed"),
    "DeleteExperiment": _row(_OWNER, _STATE, experiment_id="$managed"),
    "ContinueExperiment": _row(_OWNER, _STATE, id="$managed"),
    "ArchiveExperiment": _row(_OWNER, _STATE, id="$managed"),
    "UnarchiveExperiment": _row(_OWNER, id="$managed"),
    "MoveExperiment": _row(_OWNER, experiment_id="$experiment", destination_project_id="$project"),
    "PutExperimentLabel": _row(_OWNER, experiment_id="$experiment", label="a"),
    "DeleteExperimentLabel": _row(_OWNER, experiment_id="$experiment", label="a"),
    "PutExperimentRetainLogs": _row(_OWNER, experiment_id="$experiment", num_days=5),
    # many experiments at once
    "ActivateExperiments": _row(_OWNER, experiment_ids=["$managed"]),
    "PauseExperiments": _row(_OWNER, experiment_ids=["$managed"]),
    "CancelExperiments": _row(_OWNER, experiment_ids=["$managed"]),
    "KillExperiments": _row(_OWNER, experiment_ids=["$managed"]),
    "DeleteExperiments": _row(_OWNER, _STATE, experiment_ids=["$managed"]),
    "ArchiveExperiments": _row(_OWNER, _STATE, experiment_ids=["$managed"]),
    "UnarchiveExperiments": _row(_OWNER, experiment_ids=["$managed"]),
    "MoveExperiments": _row(
        _OWNER, experiment_ids=["$experiment"], destination_project_id="$project"
    ),
    "PutExperimentsRetainLogs": _row(_OWNER, experiment_ids=["$experiment"], num_days=5),
    # runs
    "GetRunMetadata": _row(_USER, run_id="$trial"),
    "PostRunMetadata": _row(_TRIAL, run_id="$trial", metadata={"a": 1}),
    "KillRuns": _row(_OWNER, _STATE, run_ids=["$trial"]),
    "PauseRuns": _row(_OWNER, _STATE, run_ids=["$trial"]),
    "ResumeRuns": _row(_OWNER, _STATE, run_ids=["$trial"]),
    "DeleteRuns": _row(_OWNER, _STATE, run_ids=["$trial"]),
    "ArchiveRuns": _row(_OWNER, _STATE, run_ids=["$trial"]),
    "UnarchiveRuns": _row(_OWNER, run_ids=["$trial"]),
    "MoveRuns": _row(
        _OWNER,
        run_ids=["$trial"],
        source_project_id="$home",
        destination_project_id="$project",
    ),
    # trials
    "CreateTrial": _row(_OWNER, experiment_id="$experiment", unmanaged=True),
    "PutTrial": _row(
        _OWNER,
        external_trial_id="$name",
        create_trial_request={"experiment_id": "$experiment", "unmanaged": True},
    ),
    "GetTrial": _row(_USER, trial_id="$trial"),
    "GetTrialByExternalID": _row(_USER, _ABSENT, external_experiment_id="a", external_trial_id="a"),
    "GetTrialCheckpoints": _row(_USER, id="$trial"),
    "GetTrialWorkloads": _row(_USER, trial_id="$trial"),
    "GetMetrics": _row(_USER, trial_ids=["$trial"]),
    "GetTrainingMetrics": _row(_USER, trial_ids=["$trial"]),
    "GetValidationMetrics": _row(_USER, trial_ids=["$trial"]),
    "CompareTrials": _row(_USER, trial_ids=["$trial"]),
    "GetTrialProfilerAvailableSeries": _row(_USER, trial_id="$trial"),
    "GetTrialProfilerMetrics": _row(_USER, labels={"trial_id": "$trial", "name": "a"}),
    "KillTrial": _row(_OWNER, _STATE, id="$trial"),
    "GetTrialRemainingLogRetentionDays": _row(_USER, id="$trial"),
    "PutTrialRetainLogs": _row(_OWNER, trial_id="$trial", num_days=5),
    "PatchTrial": _row(_TRIAL, trial_id="$trial", state="STATE_COMPLETED"),
    "StartTrial": _row(_TRIAL, trial_id="$trial", resume=True),
    "RunPrepareForReporting": _row(_TRIAL, run_id="$trial"),
    "PostTrialRunnerMetadata": _row(_TRIAL, trial_id="$trial", metadata={"state": "x"}),
    "ReportTrialProgress": _row(_TRIAL, trial_id="$trial", progress=0.5),
    "ReportTrialSearcherEarlyExit": _row(
        _TRIAL, trial_id="$trial", early_exit={"reason": "EXITED_REASON_INVALID_HP"}
    ),
    "ReportTrialMetrics": _row(_TRIAL, metrics=METRICS, group="training"),
    "ReportTrialTrainingMetrics": _row(_TRIAL, training_metrics=METRICS),
    "ReportTrialValidationMetrics": _row(_TRIAL, validation_metrics=METRICS),
    "ReportTrialSourceInfo": _row(
        _TRIAL,
        trial_source_info={
            "trial_id": "$trial",
            "checkpoint_uuid": "$checkpoint",
            "trial_source_info_type": "TRIAL_SOURCE_INFO_TYPE_INFERENCE",
        },
    ),
    "PostTrialProfilerMetricsBatch": _row(
        _TRIAL, batches=[{"labels": {"trial_id": "$trial", "name": "a"}}]
    ),
    # checkpoints
    "GetCheckpoint": _row(_USER, checkpoint_uuid="$checkpoint"),
    "GetTrialMetricsByCheckpoint": _row(_USER, checkpoint_uuid="$checkpoint"),
    "GetTrialMetricsByModelVersion": _row(_USER, _ABSENT, model_name="a", model_version_num=1),
    "ReportCheckpoint": _row(
        _TRIAL,
        checkpoint={"uuid": "$uuid", "task_id": "$trial_task", "metadata": {"steps_completed": 1}},
    ),
    "PostCheckpointMetadata": _row(_TRIAL, checkpoint={"uuid": "$checkpoint"}),
    "PatchCheckpoints": _row(_TRIAL, checkpoints=[{"uuid": "$checkpoint"}]),
    "DeleteCheckpoints": _row(_TRIAL, checkpoint_uuids=["$checkpoint"]),
    "CheckpointsRemoveFiles": _row(
        _TRIAL, checkpoint_uuids=["$checkpoint"], checkpoint_globs=["*"]
    ),
    # models
    "GetModel": _row(_USER, model_name="$model"),
    "GetModels": _row(_USER),
    "GetModelLabels": _row(_USER),
    "PostModel": _row(_USER, name="$name"),
    "PatchModel": _row(_USER, model_name="$model", model={"notes": "a"}),
    "ArchiveModel": _row(_USER, model_name="$model"),
    "UnarchiveModel": _row(_USER, model_name="$model"),
    "MoveModel": _row(_USER, model_name="$model", destination_workspace_id=1),
    "DeleteModel": _row(_OWNER, model_name="$model"),
    "GetModelVersion": _row(_USER, model_name="$model", model_version_num=1),
    "GetModelVersions": _row(_USER, model_name="$model"),
    "PostModelVersion": _row(_USER, model_name="$model", checkpoint_uuid="$checkpoint"),
    "PatchModelVersion": _row(
        _USER, model_name="$model", model_version_num=1, model_version={"notes": "a"}
    ),
    "DeleteModelVersion": _row(_OWNER, model_name="$model", model_version_num=1),
    "TrialLogs": _row(_USER, trial_id="$trial"),
    "TrialLogsFields": _row(_USER, trial_id="$trial"),
    "PatchUsers": _row(_ADMIN, user_ids=["$owner"], activate=True),
    "GetActiveTasksCount": _row(_USER),
}
