#include "team.h"
#include "arena.h"
#include "clock.h"
#include "cpu.h"
#include "fpmode.h"
#include "status.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

/* Members that have cores of their own meet within that time; who has to wait longer gives its core away. */
enum { AWAKE_NS = 50 * 1000, RETRY_NS = 1000 * 1000, SPINS_PER_LOOK = 64, CACHE_LINE = 64 };

typedef struct member {
    _Alignas(CACHE_LINE) atomic_llong begun;   /* of its shares, in all phases of this turn, those that somebody has taken */
    struct gi_team *team;
    int index;
    pthread_t thread;
} member;

/* Where those sleep who wait for a counter. */
typedef struct bell { atomic_int asleep; pthread_mutex_t lock; pthread_cond_t rung; } bell;

struct gi_team {
    gi_arena *arena;                   /* it lives in */
    int wanted, started;               /* members asked for, and those there are */
    pid_t process;                     /* workers exist in this process only */
    int64_t keep_hot_ns, next_try_ns;  /* of missing members */
    atomic_int busy;                   /* the process it is at work for, or 0 */
    int members;                       /* of this turn */
    gi_team_work *work;
    void *arg;
    atomic_int callers_cpu;            /* where this turn began, or -1 */
    bell call, meeting;
    _Alignas(CACHE_LINE) atomic_llong turn;    /* counts calls; the last one finds `stop` set */
    atomic_int stop;
    _Alignas(CACHE_LINE) atomic_int open;      /* workers may still come to this turn's work */
    atomic_llong outside;              /* 0, minus 1 for every worker that came and is not yet gone */
    _Alignas(CACHE_LINE) atomic_llong done;    /* shares done in this turn */
    member each[];
};

/* ---- waiting -------------------------------------------------------------------------------------------------------- */

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static inline int reached(const atomic_llong *count, long long wanted) {
    return atomic_load_explicit(count, memory_order_acquire) >= wanted;
}

/* By the clock: how long a pause takes differs by a factor of 10 between CPUs. */
static int reached_awake(const atomic_llong *count, long long wanted, int64_t awake_ns) {
    int64_t until = 0;
    for (int spins = 0; !reached(count, wanted); spins = (spins + 1) % SPINS_PER_LOOK) {
        relax();
        if (spins) continue;
        const int64_t now = gi_nanoseconds();
        if (!until) until = now + awake_ns;
        if (now >= until) return 0;
    }
    return 1;
}

/* Until `count` is at least `wanted`: awake for a while, then asleep, so that a caller of real-time priority cannot keep the
 * worker it waits for off its core. */
static void await(bell *b, const atomic_llong *count, long long wanted, int64_t awake_ns) {
    if (reached_awake(count, wanted, awake_ns)) return;
    pthread_mutex_lock(&b->lock);
    atomic_fetch_add(&b->asleep, 1);
    while (atomic_load(count) < wanted) pthread_cond_wait(&b->rung, &b->lock);
    atomic_fetch_sub(&b->asleep, 1);
    pthread_mutex_unlock(&b->lock);
}

/* Each sequentially consistent pair, here and in await: who waits sees the new count or is seen asleep. */
static inline void raise_count(bell *b, atomic_llong *count) {
    atomic_fetch_add(count, 1);
    if (atomic_load(&b->asleep) == 0) return;
    pthread_mutex_lock(&b->lock);
    pthread_cond_broadcast(&b->rung);
    pthread_mutex_unlock(&b->lock);
}

static void bell_init(bell *b) {
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->rung, NULL);
    atomic_store(&b->asleep, 0);
}

static void bell_destroy(bell *b) {
    pthread_cond_destroy(&b->rung);
    pthread_mutex_destroy(&b->lock);
}

/* ---- workers -------------------------------------------------------------------------------------------------------- */

/* A thread that is woken goes where it last was, on top of its caller if that is there now, and would begin when the caller is
 * done, turn after turn. Who finds itself there moves. */
static void make_room(const gi_team *team, const gi_cpus *allowed) {
    const int cpu = atomic_load(&team->callers_cpu);
    if (cpu >= 0 && gi_cpu_here() == cpu) gi_cpus_leave(allowed, cpu);
}

static void *worker_main(void *arg) {
    member *self = arg;
    gi_team *team = self->team;
    const gi_cpus allowed = gi_cpus_allowed();
    gi_fpmode unused;
    gi_fpmode_enter(&unused);
    for (long long seen = 0;;) {
        if (!atomic_load(&team->stop)) await(&team->call, &team->turn, seen + 1, team->keep_hot_ns);
        if (atomic_load(&team->stop)) return NULL;   /* it comes before the turn that `seen` may be */
        seen = atomic_load(&team->turn);
        make_room(team, &allowed);
        atomic_fetch_sub(&team->outside, 1);         /* before the look at `open`: see close_door */
        if (atomic_load(&team->open)) team->work(team->arg, &(gi_seat){team, self->index, 0});
        raise_count(&team->meeting, &team->outside);
    }
}

/* Whoever is not inside by now finds the door closed; who is inside is waited for. */
static void close_door(gi_team *team) {
    atomic_store(&team->open, 0);
    await(&team->meeting, &team->outside, 0, AWAKE_NS);
}

static void reset(gi_team *team, pid_t self) {
    bell_init(&team->call), bell_init(&team->meeting);
    atomic_store(&team->turn, 0), atomic_store(&team->stop, 0);
    atomic_store(&team->open, 0), atomic_store(&team->outside, 0);
    team->started = 1, team->process = self, team->next_try_ns = 0;
}

static void start_workers(gi_team *team, int members) {
    sigset_t all, callers;   /* signals are the caller's business */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    for (; team->started < members; team->started++) {
        member *w = &team->each[team->started];
        w->team = team, w->index = team->started;
        if (pthread_create(&w->thread, NULL, worker_main, w)) break;
    }
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
}

/* Whether there are workers; after a fork they are started anew. More members than CPUs would wait for each other. Those
 * that could not start, or had no CPU, may some time later: asking for CPUs takes as long as a small layer. */
static int start(gi_team *team, pid_t self) {
    if (!team->started || team->process != self) reset(team, self);
    if (team->started < team->wanted && gi_nanoseconds() >= team->next_try_ns) {
        const int cpus = gi_cpu_count(), members = cpus < team->wanted ? cpus : team->wanted;
        if (team->started < members) start_workers(team, members);
        team->next_try_ns = gi_nanoseconds() + RETRY_NS;
    }
    return team->started > 1;
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
        team->work = work, team->arg = arg, team->members = team->started;
        atomic_store_explicit(&team->done, 0, memory_order_relaxed);
        for (int i = 0; i < team->members; i++) atomic_store_explicit(&team->each[i].begun, 0, memory_order_relaxed);
        atomic_store(&team->callers_cpu, gi_cpu_here());
        atomic_store(&team->open, 1);
        raise_count(&team->call, &team->turn);
        gi_seat seat = {team, 0, 0};
        work(arg, &seat);
        gi_team_meet(&seat);
        close_door(team);
    }
    atomic_store_explicit(&team->busy, 0, memory_order_release);
    return ready;
}

/* The next of the owner's shares `from` .. from + each - 1, counted from there; or -1. */
static int take(member *owner, int64_t from, int each) {
    long long begun = atomic_load_explicit(&owner->begun, memory_order_relaxed);
    while (begun < from + each)
        if (atomic_compare_exchange_weak(&owner->begun, &begun, begun + 1)) return (int)(begun - from);
    return -1;
}

void gi_team_meet(const gi_seat *seat) {
    gi_team *team = seat->team;
    if (team) await(&team->meeting, &team->done, seat->begun * team->members, AWAKE_NS);
}

void gi_team_phase(gi_seat *seat, int each, gi_team_share *share, void *arg) {
    gi_team *team = seat->team;
    if (!team) {
        share(arg, 0, 1);
        return;
    }
    gi_team_meet(seat);
    const int members = team->members;
    for (int i = 0; i < members; i++) {
        const int owner = (seat->member + i) % members;
        for (int number; (number = take(&team->each[owner], seat->begun, each)) >= 0;) {
            share(arg, owner * each + number, members * each);
            raise_count(&team->meeting, &team->done);
        }
    }
    seat->begun += each;
}

int gi_team_size(const gi_team *team) { return team->wanted; }
int gi_team_is_hot(const gi_team *team) { return team->keep_hot_ns > 0; }

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
    *team = (gi_team){.arena = arena, .wanted = members, .keep_hot_ns = keep_hot_ns};
    return team;
}

void gi_team_free(gi_team *team) {
    if (!team) return;
    if (team->started > 1 && team->process == getpid()) {   /* a forked child has no workers to wait for */
        atomic_store(&team->stop, 1);
        raise_count(&team->call, &team->turn);
        for (int i = 1; i < team->started; i++) pthread_join(team->each[i].thread, NULL);
    }
    if (team->started && team->process == getpid()) bell_destroy(&team->call), bell_destroy(&team->meeting);
    gi_arena_free(team->arena);
}
