#include "team.h"
#include "fpmode.h"
#include "status.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SPINS_BEFORE_YIELD = 4000 };   /* about 0.1 ms: far longer than members are apart unless one of them lost its core */

typedef struct member { struct gi_team *team; int index; pthread_t thread; } member;

struct gi_team {
    int members, started;
    pid_t process;                     /* workers exist in this process only */
    int64_t keep_hot_ns;
    atomic_int busy;
    gi_team_work *work;
    void *arg;
    _Alignas(64) atomic_uint turn;     /* counts calls */
    atomic_int stop, asleep;
    _Alignas(64) atomic_int done;      /* workers through with this turn */
    _Alignas(64) atomic_int arrived;   /* members at the meeting */
    atomic_uint meeting;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    member worker[];
};

static inline void relax(int spins) {
    if (spins % SPINS_BEFORE_YIELD == SPINS_BEFORE_YIELD - 1) sched_yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Until `turn` is no longer `seen`: awake for the keep-hot time, then asleep. */
static void await_turn(gi_team *team, unsigned seen) {
    const int64_t until = team->keep_hot_ns ? nanoseconds() + team->keep_hot_ns : 0;
    for (int spins = 0; until && atomic_load_explicit(&team->turn, memory_order_acquire) == seen; spins++) {
        relax(spins);
        if (spins % 64 == 0 && nanoseconds() > until) break;
    }
    if (atomic_load_explicit(&team->turn, memory_order_acquire) != seen) return;
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->asleep, 1);
    while (atomic_load(&team->turn) == seen) pthread_cond_wait(&team->wake, &team->lock);
    atomic_fetch_sub(&team->asleep, 1);
    pthread_mutex_unlock(&team->lock);
}

static void *worker_main(void *arg) {
    member *self = arg;
    gi_team *team = self->team;
    gi_fpmode_enter();
    for (unsigned seen = 0;; seen++) {
        await_turn(team, seen);
        if (atomic_load(&team->stop)) return NULL;
        team->work(team->arg, team, self->index, team->members);
        atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
    }
}

/* The sequentially consistent store and load pair with those in await_turn: a worker either sees the turn or is seen asleep. */
static void next_turn(gi_team *team) {
    atomic_fetch_add(&team->turn, 1);
    if (atomic_load(&team->asleep) == 0) return;
    pthread_mutex_lock(&team->lock);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
}

/* Whether all workers run; after a fork they are started anew. A team that cannot start them has one member from then on. */
static int start(gi_team *team) {
    if (team->started && team->process == getpid()) return 1;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    atomic_store(&team->turn, 0), atomic_store(&team->asleep, 0), atomic_store(&team->stop, 0);
    atomic_store(&team->arrived, 0), atomic_store(&team->meeting, 0);
    team->process = getpid();
    sigset_t all, callers;   /* signals are the caller's business */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    for (team->started = 1; team->started < team->members; team->started++) {
        member *w = &team->worker[team->started];
        *w = (member){.team = team, .index = team->started};
        if (pthread_create(&w->thread, NULL, worker_main, w)) break;
    }
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
    team->members = team->started;
    return team->members > 1;
}

int gi_team_run(gi_team *team, gi_team_work *work, void *arg) {
    if (!team || team->members < 2 || atomic_exchange_explicit(&team->busy, 1, memory_order_acquire)) return 0;
    const int ready = start(team);
    if (ready) {
        team->work = work, team->arg = arg;
        atomic_store(&team->done, 0);
        next_turn(team);
        work(arg, team, 0, team->members);
        for (int spins = 0; atomic_load_explicit(&team->done, memory_order_acquire) < team->members - 1; spins++) relax(spins);
    }
    atomic_store_explicit(&team->busy, 0, memory_order_release);
    return ready;
}

void gi_team_meet(gi_team *team) {
    const unsigned now = atomic_load_explicit(&team->meeting, memory_order_acquire);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == team->members - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->meeting, now + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&team->meeting, memory_order_acquire) == now; spins++) relax(spins);
}

gi_team *gi_team_create(int members, int64_t keep_hot_ns, gi_error *err) {
    if (members < 1 || members > GI_TEAM_MAX || keep_hot_ns < 0) {
        gi_fail(err, GI_ERR_ARGUMENT, "a team has 1 to %d threads and keeps hot for 0 ns or more, got %d and %lld", GI_TEAM_MAX,
                members, (long long)keep_hot_ns);
        return NULL;
    }
    const size_t bytes = (sizeof(gi_team) + (size_t)members * sizeof(member) + 63) / 64 * 64;
    gi_team *team = aligned_alloc(64, bytes);
    if (!team) {
        gi_fail(err, GI_ERR_MEMORY, "out of memory for a team of %d threads", members);
        return NULL;
    }
    *team = (gi_team){.members = members, .keep_hot_ns = keep_hot_ns};
    return team;
}

void gi_team_free(gi_team *team) {
    if (!team) return;
    if (team->started > 1 && team->process == getpid()) {   /* a forked child has no workers to wait for */
        atomic_store(&team->stop, 1);
        next_turn(team);
        for (int i = 1; i < team->started; i++) pthread_join(team->worker[i].thread, NULL);
        pthread_cond_destroy(&team->wake);
        pthread_mutex_destroy(&team->lock);
    }
    free(team);
}
