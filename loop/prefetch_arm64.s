#include "textflag.h"

// func prefetch(t *Timer)
TEXT ·prefetch(SB), NOSPLIT, $0-8
	MOVD t+0(FP), R0
	SUB  $64, R0
	PRFM (R0), PLDL1KEEP
	PRFM 64(R0), PLDL1KEEP
	PRFM 128(R0), PLDL1KEEP
	RET
