"""Phase profile of linear kernels (debug)."""
import re, sys, statistics, collections, torch
sys.path.insert(0,'.')
from onelaunch.targets.cuda import compiler, loaded, emit
from onelaunch.frontend import stats
from onelaunch.frontend.backend import backend
from benchmarks.gpu_step import SHAPES, Step
NT=60000
orig=emit.Source.text
def text(self):
    out=[];infn=False;lin=False
    for line in orig(self).split("\n"):
        m=re.match(r"__device__ .* void run_(\d+)\(",line)
        if m: infn=True; lin=False
        ins=lambda n: out.append(f"  MARK({n})")
        if infn and re.search(r"\blinear<",line): ins(2)
        if infn and line=="}": ins(5)
        out.append(line)
        if m: ins(6)
        if infn and line.strip()=="staged();": ins(0)
        if infn and "reduce_block" in line: ins(1)
        if infn and lin and "sync_block();" in line: ins(4); lin=False
        if infn and re.search(r"\blinear<",line): ins(3); lin=True
        if infn and line=="}": infn=False
    t="\n".join(out)
    return t.replace("namespace onelaunch {\n","namespace onelaunch {\n#define MARK(n) if (launch.stamps != nullptr && threadIdx.x == 0) ((int64_t*)(launch.stamps + %d))[task.number * 8 + n] = clock64();\n"%NT,1)
emit.Source.text=text
def trace(self):
    if self._stamps is None:
        self._stamps=torch.zeros(NT*3,4,dtype=torch.int64,device="cuda")
        self.parameters.stamps=self._stamps.data_ptr()
    return self._stamps
loaded.Loaded.trace=trace
@torch.no_grad()
def main(shape, batch=1):
    step=Step(SHAPES[shape],batch,178,None)
    call=torch.compile(step.model,backend=backend,fullgraph=True,options={"target":"cuda","fallback":"error","cache":False})
    step.rewind(); step.run(call)
    b=[b for r in stats.records() for s in r.live for b in getattr(s,"bindings",())][-1]
    st=b.executable.trace()
    for _ in range(5): step.rewind(); step.run(call)
    b.executable.synchronize()
    s=st.cpu(); p=b.program; n=len(p.tasks)
    marks=s[NT:].reshape(-1)[:n*8].view(n,8)
    rows=collections.defaultdict(list)
    for i,t in enumerate(p.tasks): rows[t.kernel].append(i)
    print("cycles: (start->staged) staged->reduce ->linear  linear  sync  epilogue ;")
    for k,ix in rows.items():
        m=marks[ix]
        def d(a,c):
            x=[(int(r[c])-int(r[a])) for r in m if r[c] and r[a]]
            return round(statistics.mean(x)) if x else None
        label=p.ops[p.tasks[ix[0]].op][:40]
        print(k,label,len(ix),"| start-staged",d(6,0),"staged-reduced",d(0,1),"reduced-linear",d(1,2),"staged-linear",d(0,2),"linear",d(2,3),"sync",d(3,4),"epi",d(4,5),"total",d(0,5), "all", d(6,5))
    torch._dynamo.reset()
for a in sys.argv[1:]: main(a)
