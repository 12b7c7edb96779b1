#include "team.h"
#include "arena.h"
#include "clock.h"
#include "fpmode.h"
#include "status.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum { SPINS_BEFORE_YIELD = 1000, CACHE_LINE = 64 };

typedef struct member {
    _Alignas(CACHE_LINE) atomic_llong begun;   /* phases whose share of this number somebody has taken */
    struct gi_team *team;
    int index;
    pthread_t thread;
} member;

struct gi_team {
    gi_arena *arena;                   /* it lives in */
    int members, started;
    pid_t process;                     /* workers exist in this process only */
    int64_t keep_hot_ns;
    atomic_int busy;                   /* the process it is at work for, or 0 */
    gi_team_work *work;
    void *arg;
    _Alignas(CACHE_LINE) atomic_uint turn;     /* counts calls; the last one finds `stop` set */
    atomic_int stop, asleep;
    _Alignas(CACHE_LINE) atomic_int open;      /* workers may still come to this turn's work */
    atomic_int inside;                 /* workers that came */
    _Alignas(CACHE_LINE) atomic_llong done;    /* shares done in this turn */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    member each[];
};

static inline void relax(int64_t spins) {
    if (spins % SPINS_BEFORE_YIELD == SPINS_BEFORE_YIELD - 1) sched_yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* ---- workers -------------------------------------------------------------------------------------------------------- */

/* Until `turn` is no longer `seen`: awake for the keep-hot time, then asleep. */
static void await_turn(gi_team *team, unsigned seen) {
    const int64_t until = team->keep_hot_ns ? gi_nanoseconds() + team->keep_hot_ns : 0;
    for (int64_t spins = 0; until && atomic_load_explicit(&team->turn, memory_order_acquire) == seen; spins++) {
        relax(spins);
        if (spins % 64 == 0 && gi_nanoseconds() > until) break;
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
    for (unsigned seen = 0;; seen = atomic_load(&team->turn)) {
        if (!atomic_load(&team->stop)) await_turn(team, seen);   /* `stop` comes before the turn that `seen` may be */
        if (atomic_load(&team->stop)) return NULL;
        atomic_fetch_add(&team->inside, 1);   /* before the look at `open`: see close_door */
        if (atomic_load(&team->open)) team->work(team->arg, &(gi_seat){team, self->index, 0});
        atomic_fetch_sub(&team->inside, 1);
    }
}

/* Each sequentially consistent pair, here and in await_turn: a worker sees the new turn or is seen asleep. */
static void next_turn(gi_team *team) {
    atomic_fetch_add(&team->turn, 1);
    if (atomic_load(&team->asleep) == 0) return;
    pthread_mutex_lock(&team->lock);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
}

/* Whoever is not inside by now finds the door closed; who is inside is waited for. */
static void close_door(gi_team *team) {
    atomic_store(&team->open, 0);
    for (int64_t spins = 0; atomic_load(&team->inside) > 0; spins++) relax(spins);
}

static void reset(gi_team *team, pid_t self) {
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    atomic_store(&team->turn, 0), atomic_store(&team->asleep, 0), atomic_store(&team->stop, 0);
    atomic_store(&team->open, 0), atomic_store(&team->inside, 0);
    team->process = self;
}

/* Whether there are workers; after a fork they are started anew. A team that cannot start them has one member from then on. */
static int start(gi_team *team, pid_t self) {
    if (team->started && team->process == self) return team->members > 1;
    reset(team, self);
    sigset_t all, callers;   /* signals are the caller's business */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    for (team->started = 1; team->started < team->members; team->started++) {
        member *w = &team->each[team->started];
        w->team = team, w->index = team->started;
        if (pthread_create(&w->thread, NULL, worker_main, w)) break;
    }
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
    team->members = team->started;
    return team->members > 1;
}

/* ---- work ----------------------------------------------------------------------------------------------------------- */

/* Takes the team for this process. What it was doing for another one, before a fork, nobody goes on with here. */
static int occupy(gi_team *team, pid_t self) {
    int held = atomic_load_explicit(&team->busy, memory_order_relaxed);
    return held != self &&
           atomic_compare_exchange_strong_explicit(&team->busy, &held, self, memory_order_acquire, memory_order_relaxed);
}

int gi_team_run(gi_team *team, gi_team_work *work, void *arg) {
    const pid_t self = team ? getpid() : 0;
    if (!team || !occupy(team, self)) return 0;
    const int ready = start(team, self);
    if (ready) {
        team->work = work, team->arg = arg;
        atomic_store_explicit(&team->done, 0, memory_order_relaxed);
        for (int i = 0; i < team->members; i++) atomic_store_explicit(&team->each[i].begun, 0, memory_order_relaxed);
        atomic_store(&team->open, 1);
        next_turn(team);
        work(arg, &(gi_seat){team, 0, 0});
        close_door(team);
    }
    atomic_store_explicit(&team->busy, 0, memory_order_release);
    return ready;
}

static int take(member *owner, int64_t phase) {
    long long begun = atomic_load_explicit(&owner->begun, memory_order_relaxed);
    return begun == phase && atomic_compare_exchange_strong(&owner->begun, &begun, phase + 1);
}

void gi_team_phase(gi_seat *seat, gi_team_share *share, void *arg) {
    gi_team *team = seat->team;
    if (!team) {
        share(arg, 0, 1);
        return;
    }
    const int members = team->members;
    for (int i = 0; i < members; i++) {
        const int number = (seat->member + i) % members;
        if (!take(&team->each[number], seat->phase)) continue;
        share(arg, number, members);
        atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
    }
    const int64_t wanted = ++seat->phase * members;
    for (int64_t spins = 0; atomic_load_explicit(&team->done, memory_order_acquire) < wanted; spins++) relax(spins);
}

/* ---- life ----------------------------------------------------------------------------------------------------------- */

gi_team *gi_team_create(int members, int64_t keep_hot_ns, gi_error *err) {
    if (members < 1 || members > GI_TEAM_MAX || keep_hot_ns < 0) {
        gi_fail(err, GI_ERR_ARGUMENT, "a team has 1 to %d threads and keeps hot for 0 ns or more, got %d and %lld", GI_TEAM_MAX,
                members, (long long)keep_hot_ns);
        return NULL;
    }
    gi_arena *arena = gi_arena_create();
    gi_team *team = arena ? gi_arena_take(arena, sizeof(gi_team) + (size_t)members * sizeof(member)) : NULL;
    if (!team) {
        gi_arena_free(arena);
        gi_fail(err, GI_ERR_MEMORY, "out of memory for a team of %d threads", members);
        return NULL;
    }
    *team = (gi_team){.arena = arena, .members = members, .keep_hot_ns = keep_hot_ns};
    return team;
}

void gi_team_free(gi_team *team) {
    if (!team) return;
    if (team->started > 1 && team->process == getpid()) {   /* a forked child has no workers to wait for */
        atomic_store(&team->stop, 1);
        next_turn(team);
        for (int i = 1; i < team->started; i++) pthread_join(team->each[i].thread, NULL);
        pthread_cond_destroy(&team->wake);
        pthread_mutex_destroy(&team->lock);
    }
    gi_arena_free(team->arena);
}
