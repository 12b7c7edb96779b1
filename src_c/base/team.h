/* A team: threads that share one piece of work. It is done in phases, a phase in shares. Every member has shares of its own, so
 * that a core keeps what they read in its own cache; a share that nobody has begun is taken by whoever is free, so
 * that a member that is still waking up, or loses its core to another program between shares, delays nobody. One that
 * loses it amid a share is waited for: awake for some microseconds, then asleep. */
#ifndef GI_TEAM_H
#define GI_TEAM_H
#include "../gateinfer.h"

/* Where a member is in the work: `begun` counts each member's shares in the phases before. Alone: team NULL, member 0. */
typedef struct gi_seat { gi_team *team; int member; int64_t begun; } gi_seat;

/* Runs on every member that comes in time, the caller of gi_team_run being one. All go through the same phases. */
typedef void gi_team_work(void *arg, gi_seat *seat);
typedef void gi_team_share(void *arg, int share, int shares);

/* Returns when all is done; or 0, and nothing has run, when there is nobody but the caller or the team is at work for somebody
 * else: the caller does it alone then. Workers start at the first call, no more than there are CPUs for, and anew after a
 * fork; the missing ones are tried again after a millisecond or more. */
int gi_team_run(gi_team *team, gi_team_work *work, void *arg);
int gi_team_size(const gi_team *team);   /* members asked for */
/* Its workers, if it has any, wait awake for the next work for a while: nobody has to be woken then. */
int gi_team_is_hot(const gi_team *team);
/* Begins when all shares of the phases before are done, and returns when all of this one are begun: between phases a member
 * touches nothing that shares write, unless it has met the others. each: shares of every member, the same number for all of
 * them; with several, those of one who comes late are not all left to one other. */
void gi_team_phase(gi_seat *seat, int each, gi_team_share *share, void *arg);
/* Returns when all shares of the phases so far are done. */
void gi_team_meet(const gi_seat *seat);

/* Share number `share` of `count` items taken `unit` at a time: from *first, returns how many. */
static inline int64_t gi_share_of(int64_t count, int64_t unit, int share, int shares, int64_t *first) {
    const int64_t units = (count + unit - 1) / unit;
    const int64_t from = units * share / shares * unit, to = units * (share + 1) / shares * unit;
    *first = from < count ? from : count;
    return (to < count ? to : count) - *first;
}

#endif
