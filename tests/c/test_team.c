/* Teams: every share of every phase is done once, whoever comes and by whoever is free; a busy team is not waited for.
 * Exit status 1 on any failure. */
#define _GNU_SOURCE
#include "../../src_c/base/team.h"
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PHASES = 50, RUNS = 400 };

static int cpus = GI_TEAM_MAX;

/* In place of the C library's: teams of any size, whatever machine this is. */
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    (void)pid;
    CPU_ZERO_S(size, set);
    for (int i = 0; i < cpus; i++) CPU_SET_S(i, size, set);
    return 0;
}

enum { MOST_EACH = 8 };
typedef struct tally { atomic_int done[PHASES][MOST_EACH * GI_TEAM_MAX]; atomic_int early; } tally;
typedef struct phase_of { tally *all; int phase; } phase_of;

static int each_of(int phase) { return 1 + phase % MOST_EACH; }

static int is_complete(const tally *t, int phase, int members) {
    for (int i = 0; i < MOST_EACH * GI_TEAM_MAX; i++)
        if (atomic_load(&t->done[phase][i]) != (i < members * each_of(phase))) return 0;
    return 1;
}

static void mark(void *arg, int share, int shares) {
    const phase_of *p = arg;
    if (p->phase > 0 && !is_complete(p->all, p->phase - 1, shares / each_of(p->phase))) atomic_fetch_add(&p->all->early, 1);
    atomic_fetch_add(&p->all->done[p->phase][share], 1);
}

static void all_phases(void *arg, gi_seat *seat) {
    for (int phase = 0; phase < PHASES; phase++) gi_team_phase(seat, each_of(phase), mark, &(phase_of){arg, phase});
}

static int complete(const tally *t, int members) {
    for (int phase = 0; phase < PHASES; phase++)
        if (!is_complete(t, phase, members)) return 0;
    return atomic_load(&t->early) == 0;
}

static void check_members(int members, int64_t keep_hot_ns) {
    gi_team *team = gi_team_create(members, keep_hot_ns, NULL);
    long failed = 0;
    for (int run = 0; run < RUNS; run++) {
        tally t = {0};
        const int ran = gi_team_run(team, all_phases, &t);
        failed += members > 1 ? !ran || !complete(&t, members) : ran;
        if (run % 100 == 0) usleep(1000);   /* so that workers fall asleep now and then */
    }
    gi_team_free(team);
    check_group("team", keep_hot_ns ? "shares, kept hot" : "shares", RUNS, failed);
}

static void ask_again(void *arg, gi_seat *seat) {
    atomic_fetch_add((atomic_int *)arg, gi_team_run(seat->team, all_phases, NULL));
}

static void *ask_from_elsewhere(void *arg) {
    static tally t[RUNS];
    for (int run = 0; run < RUNS; run++)
        if (gi_team_run(arg, all_phases, &t[run]) && !complete(&t[run], 2)) return arg;
    return NULL;
}

static void check_busy(void) {
    gi_team *team = gi_team_create(2, 0, NULL);
    atomic_int ran = 0;
    gi_team_run(team, ask_again, &ran);
    long failed = atomic_load(&ran) != 0;
    pthread_t other;
    void *broken = NULL;
    pthread_create(&other, NULL, ask_from_elsewhere, team);
    for (int run = 0; run < RUNS; run++) {
        tally t = {0};
        failed += gi_team_run(team, all_phases, &t) && !complete(&t, 2);
    }
    pthread_join(other, &broken);
    gi_team_free(team);
    check_group("team", "two callers", RUNS, failed + (broken != NULL));
}

static void count_share(void *arg, int share, int shares) { if (share == 0) *(int *)arg = shares; }
static void count_members(void *arg, gi_seat *seat) { gi_team_phase(seat, 1, count_share, arg); }

/* Members at work, the caller included. Missing ones are tried once a millisecond. */
static int members_at_work(gi_team *team) {
    int members = 1;
    usleep(2000);
    gi_team_run(team, count_members, &members);
    return members;
}

static void check_cpus(void) {
    gi_team *team = gi_team_create(4, 0, NULL);
    static const struct { int cpus, members; } steps[] = {{1, 1}, {2, 2}, {3, 3}, {64, 4}, {1, 4}};   /* those there are stay */
    long failed = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        cpus = steps[i].cpus;
        failed += members_at_work(team) != steps[i].members;
    }
    cpus = GI_TEAM_MAX;
    gi_team_free(team);
    check_group("team", "no more members than CPUs", 5, failed);
}

/* No thread starts when its stack would be larger than the address space. */
static void set_stack(size_t bytes) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, bytes);
    pthread_setattr_default_np(&attr);
    pthread_attr_destroy(&attr);
}

static void check_failed_start(void) {
    gi_team *team = gi_team_create(3, 0, NULL);
    pthread_attr_t normal;
    size_t bytes;
    pthread_getattr_default_np(&normal);
    pthread_attr_getstacksize(&normal, &bytes);
    pthread_attr_destroy(&normal);
    set_stack((size_t)1 << 50);
    const int without = members_at_work(team);
    set_stack(bytes);
    const int with = members_at_work(team);
    gi_team_free(team);
    check_group("team", "threads that could not start are tried again", 2, (without != 1) + (with != 3));
}

enum { LATE_PHASES = 5, LATE_US = 20000 };

static void come_late(void *arg, int share, int shares) {
    (void)shares;
    usleep(share ? LATE_US : 0);
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void late_phases(void *arg, gi_seat *seat) {
    for (int phase = 0; phase < LATE_PHASES; phase++) gi_team_phase(seat, 1, come_late, arg);
    gi_team_meet(seat);
    if (atomic_load((atomic_int *)arg) != LATE_PHASES * 3) atomic_fetch_add((atomic_int *)arg, 1000);
}

/* Whoever waits for long sleeps: all but the shares that come late take next to no time of any CPU. */
static void check_late(void) {
    gi_team *team = gi_team_create(3, 0, NULL);
    atomic_int done = 0;
    const clock_t before = clock();
    long failed = !gi_team_run(team, late_phases, &done) || atomic_load(&done) != LATE_PHASES * 3;
    failed += (clock() - before) * 1000000.0 / CLOCKS_PER_SEC > LATE_PHASES * LATE_US / 2;
    gi_team_free(team);
    check_group("team", "who waits long sleeps", 2, failed);
}

enum { BEGUN = 4, BEGUN_RUNS = 6, PATIENCE_MS = 20000 };
typedef struct stay_case { int caller_stays; atomic_int done; } stay_case;
static _Thread_local int is_caller;

/* The caller or the worker stays in its share until all others are done: by the other one, who takes those nobody has begun. */
static void stay(void *arg, int share, int shares) {
    (void)share;
    stay_case *c = arg;
    const int stays = is_caller == c->caller_stays;
    for (int ms = 0; stays && ms < PATIENCE_MS && atomic_load(&c->done) < shares - 1; ms++) usleep(1000);
    if (!stays) usleep(3000);   /* so that who stays has come */
    atomic_fetch_add(&c->done, stays && atomic_load(&c->done) < shares - 1 ? 1000 : 1);
}

static void stay_in_one(void *arg, gi_seat *seat) {
    is_caller = seat->member == 0;
    gi_team_phase(seat, BEGUN, stay, arg);
}

static void check_taken_over(void) {
    gi_team *team = gi_team_create(2, 0, NULL);
    long failed = 0;
    for (int run = 0; run < BEGUN_RUNS; run++) {
        stay_case c = {.caller_stays = run & 1};
        failed += !gi_team_run(team, stay_in_one, &c) || atomic_load(&c.done) != 2 * BEGUN;
    }
    gi_team_free(team);
    check_group("team", "shares nobody has begun are anybody's", BEGUN_RUNS, failed);
}

typedef struct fork_case { gi_team *team; int status; } fork_case;

/* Another process goes on with a team that is at work: twice, the second time with the threads it has by then. */
static void fork_amid(void *arg, gi_seat *seat) {
    fork_case *c = arg;
    if (seat->member) return;
    const pid_t child = fork();
    if (child > 0) {
        waitpid(child, &c->status, 0);
        return;
    }
    static tally t[2];
    for (int run = 0; run < 2; run++)
        if (!gi_team_run(c->team, all_phases, &t[run]) || !complete(&t[run], 3)) _exit(1);
    gi_team_free(c->team);
    _exit(0);
}

static void check_fork(void) {
    fork_case c = {gi_team_create(3, 0, NULL), 1};
    gi_team_run(c.team, fork_amid, &c);
    gi_team_free(c.team);
    check_group("team", "a fork while at work", 1, c.status != 0);
}

static void check_shares(void) {
    long failed = 0;
    for (int64_t count = 0; count < 40; count++)
        for (int64_t unit = 1; unit < 5; unit++)
            for (int shares = 1; shares < 5; shares++) {
                int64_t next = 0, first;
                for (int i = 0; i < shares; i++) {
                    const int64_t n = gi_share_of(count, unit, i, shares, &first);
                    failed += n < 0 || (n > 0 && (first != next || first % unit));
                    next += n;
                }
                failed += next != count;
            }
    check_group("team", "gi_share_of", 40 * 4 * 4, failed);
}

int main(void) {
    for (int members = 1; members <= 4; members++) check_members(members, 0);
    check_members(2, 2000000);
    check_busy();
    check_cpus();
    check_failed_start();
    check_late();
    check_taken_over();
    check_fork();
    check_shares();
    gi_error err;
    check_group("team", "refusals", 2, !!gi_team_create(0, 0, &err) + !!gi_team_create(GI_TEAM_MAX + 1, 0, &err));
    return check_failures != 0;
}
