#!/bin/bash
# Shipway dispatch 118.2f3c9a52.1 of alice, written by shipway-launcher.
# Nothing secret is in here; what the task needs to know is in task.json beside this file.

# Options of the site:
#SBATCH --mail-type=NONE

# Options of the user:
#SBATCH --mem-per-gpu=65536

# Options of the launcher; they stand last, because of two the last one counts:
#SBATCH --job-name=det-ai_exp-118-118.2f3c9a52.1
#SBATCH --comment="two words shipway:118.2f3c9a52.1"
#SBATCH --no-requeue

folder=/lustre/launcher/jobs/environments/alice/118.2f3c9a52.1

# The work is done once. A job that Slurm starts again has tokens that are no longer valid, and
# where a submission was repeated because its answer was lost, there may be a second job.
if [ -n "${SLURM_RESTART_COUNT:-}" ]; then
  echo "shipway: Slurm has started job $SLURM_JOB_ID again; it does not run a second time" >&2
  exit 82
fi
if ! (set -o noclobber; echo "$SLURM_JOB_ID" >"$folder/claim") 2>/dev/null; then
  if [ -e "$folder/claim" ]; then
    echo "shipway: job $(cat "$folder/claim") does this work already; $SLURM_JOB_ID ends" >&2
    exit 83
  fi
  echo "shipway: $(uname -n) cannot write into $folder; is it on storage that all nodes share?" >&2
  exit 84
fi

echo 'shipway: 5 GPUs cannot be shared out; 6 it'"'"'s' >&2

# A trial needs as many GPUs on each node as on any other, and Slurm was free to choose.
if [ "${SLURM_NNODES:-1}" -gt 1 ]; then
  counts=$(scontrol show job --details "$SLURM_JOB_ID" 2>/dev/null | awk '
    sub(/^ *Nodes=.* GRES=/, "") {
      gsub(/\([^)]*\)/, "")
      count = 0
      parts = split($1, part, ",")
      for (i = 1; i <= parts; i++)
        if (part[i] ~ /^gpu:/) { fields = split(part[i], field, ":"); count += field[fields] }
      print count
    }' | sort -nu | paste -sd, -)
  case "$counts" in *,*)
    echo "shipway: the nodes have $counts GPUs, and a trial needs the same number on each;" \
      "set slurm.slots_per_node" >&2
    exit 85 ;;
  esac
fi

# Slurm 22.05 and later do not hand the job's CPUs per task on to srun.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
  export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
fi
export SLURM_CPU_BIND=none

# Lines of the site, before the tasks:
module load shipway

# Notice of preemption or of the time limit may reach only this shell. The tasks get it by way of
# Slurm; a signal to srun itself would kill them at once.
forward() {
  again=yes
  scancel --signal="$1" "$SLURM_JOB_ID" 2>/dev/null  # fails where the tasks have ended already
}
for signal in TERM USR1 USR2 INT HUP; do
  trap "forward $signal" "$signal"
done

# One agent on each node; it runs the task and ends with its exit code.
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 \
  --kill-on-bad-exit=1 --mpi=pmi2 \
  /opt/shipway/bin/shipway-agent job "$folder/task.json" &
srun=$!
while :; do
  again=
  wait "$srun"
  status=$?
  [ -n "$again" ] || break
done

# For the launcher, should Slurm have forgotten the job by then.
echo "$status $SLURM_JOB_ID" >"$folder/exit.new" && mv "$folder/exit.new" "$folder/exit"

# Lines of the site, after the tasks:
echo done

exit "$status"
