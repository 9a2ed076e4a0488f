#!/bin/bash
# Shipway dispatch 9d0c.1 of alice, written by shipway-launcher.
# Nothing secret is in here; what the task needs to know is in task.json beside this file.

# Options of the user:
#PBS -l walltime=1:00:00

# Options of the launcher; they stand last, because of two the last one counts:
#PBS -N det-ai_cmd-9d0c7a3e-9d0c.1
#PBS -q gpuq
#PBS -l select=4:ngpus=1
#PBS -S /bin/bash
#PBS -o /lustre/launcher/jobs/environments/alice/9d0c.1/output.log
#PBS -e /lustre/launcher/jobs/environments/alice/9d0c.1/error.log
#PBS -k oed
#PBS -r n
#PBS -W umask=0022
#PBS -V
#PBS -v SHIPWAY_DISPATCH=9d0c.1

folder=/lustre/launcher/jobs/environments/alice/9d0c.1

# On each node pbs_tmrsh runs this same file, for one rank: `rank NUMBER RANKS NODE`. The task finds
# its place in the variables that it would find it in under Slurm.
if [ "${1:-}" = rank ]; then
  export SLURM_PROCID="$2" SLURM_NPROCS="$3" SLURMD_NODENAME="$4"
  echo "$$" >"$folder/pid.$2"
  cd /var/tmp 2>/dev/null || cd /
  exec /opt/shipway-agent job "$folder/task.json" </dev/null
fi

# The work is done once. A job that PBS starts again has tokens that are no longer valid, and
# where a submission was repeated because its answer was lost, there may be a second job.
if ! (set -o noclobber; echo "$PBS_JOBID" >"$folder/claim") 2>/dev/null; then
  if [ -e "$folder/claim" ]; then
    echo "shipway: job $(cat "$folder/claim") does this work, or did it; $PBS_JOBID ends" >&2
    exit 83
  fi
  echo "shipway: $(uname -n) cannot write into $folder; is it on storage that all nodes share?" >&2
  exit 84
fi

# A trial needs as many GPUs on each node as on any other, and PBS was free to choose. There is a
# line for each GPU's chunk.
counts=$(sort "$PBS_NODEFILE" | uniq -c | awk '{ print $1 }' | sort -nu | paste -sd, -)
case "$counts" in *,*)
  echo "shipway: the nodes have $counts GPUs, and a trial needs the same number on each;" \
    "set pbs.slots_per_node" >&2
  exit 85 ;;
esac

# Nodes may have PBS's programs elsewhere than the host that the job came from.
conf="${PBS_CONF_FILE:-/etc/pbs.conf}"
if [ -r "$conf" ]; then
  PATH="$PATH:$(sed -n 's/^PBS_EXEC=//p' "$conf")/bin"
fi

# Rank 0 is on the first host, where this script runs too.
mapfile -t hosts < <(awk '!seen[$0]++' "$PBS_NODEFILE")
ranks=$(awk '!seen[$0]++ { ranks++ } END { print ranks }' "$PBS_NODEFILE")
pids=()

# Send a signal to the agents of all ranks that run.
signal_ranks() {
  local rank pid
  for rank in "${!hosts[@]}"; do
    pid=$(cat "$folder/pid.$rank" 2>/dev/null) || continue
    if [ "$rank" = 0 ]; then
      kill -s "$1" "$pid" 2>/dev/null
    else
      (trap '' TERM USR1; pbs_tmrsh "${hosts[rank]}" /bin/kill -s "$1" "$pid") &>/dev/null </dev/null &
    fi
  done
}

# Where one rank has failed, the others are ended; the mark tells them that this is no preemption.
end_others() {
  mkdir -p "$folder/cancelled"
  signal_ranks TERM
  sleep 10
  signal_ranks KILL
}

# Start one rank and wait for it; what comes first of the ends that are not 0 is the job's.
run_rank() {
  local rank="$1" host="${hosts[$1]}" status
  local words=(/bin/bash "$folder/job.sh" rank "$rank" "$ranks" "$host")
  if [ "$rank" = 0 ]; then
    trap : TERM USR1
    "${words[@]}"
  else
    trap '' TERM USR1  # pbs_tmrsh would die of them, and the rank would not
    pbs_tmrsh "$host" "${words[@]}" </dev/null
  fi
  status=$?
  rm -f "$folder/pid.$rank"
  if [ "$status" -ne 0 ]; then
    echo "shipway: rank $rank on $host exited with status $status" >&2
    if (set -o noclobber; echo "$status" >"$folder/failed") 2>/dev/null; then
      end_others &>/dev/null </dev/null &
    fi
  fi
  exit "$status"
}

# Notice of preemption, of the time limit or of a cancel reaches this host only.
forward() {
  again=yes
  signal_ranks TERM
}
trap forward TERM USR1

for rank in "${!hosts[@]}"; do
  run_rank "$rank" &
  pids+=("$!")
done
for pid in "${pids[@]}"; do
  while :; do
    again=
    wait "$pid"
    status=$?
    [ -n "$again" ] || break
  done
  [ "$status" -eq 0 ] || last=$((status & 255))
done
status=$(cat "$folder/failed" 2>/dev/null || echo "${last:-0}")

# For the launcher: PBS keeps no history of its jobs unless it is told to.
echo "$status $PBS_JOBID" >"$folder/exit.new" && mv "$folder/exit.new" "$folder/exit"
exit "$status"
